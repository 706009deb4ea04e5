"""Verifies Mote's attestation results with PyJWT and pycose (see ear.sh).

usage: ear.py DIR: key.pem, key.jwk, and for each tier TIER.jwt and TIER.cwt
"""

import base64
import json
import pathlib
import sys

import cbor2
import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pycose.headers import Algorithm, KID
from pycose.keys import EC2Key
from pycose.messages import CoseMessage

PROFILE = "tag:ietf.org,2026:rats/ear#04"
NONCE = bytes.fromhex("00112233445566778899aabbccddeeff")
TIERS = {"none": 0, "affirming": 2, "warning": 32, "contraindicated": 96}
# draft-ietf-rats-ear-04: CBOR label and JSON name of each claim.
TOP = {2: "sub", 4: "exp", 6: "iat", 10: "eat_nonce", 265: "eat_profile", 266: "submods",
       1000: "ear_status", 1004: "ear_verifier_id"}
APPRAISAL = {1000: "ear_status", 1001: "ear_trustworthiness_vector",
             1003: "ear_appraisal_policy_ids", 1006: "ear_verifier_claims"}
VECTOR = ["instance-identity", "configuration", "executables", "file-system", "hardware",
          "runtime-opaque", "storage-opaque", "sourced-data"]


def in_json(claims):
    """The claims of a CWT as a JWT would have them."""
    out = {TOP[label]: value for label, value in claims.items()}
    tier = {code: name for name, code in TIERS.items()}
    out["ear_status"] = tier[out["ear_status"]]
    out["eat_nonce"] = base64.urlsafe_b64encode(out["eat_nonce"]).rstrip(b"=").decode()
    developer, build = (out["ear_verifier_id"][key] for key in (0, 1))
    out["ear_verifier_id"] = {"developer": developer, "build": build}
    submods = {}
    for name, appraisal in out["submods"].items():
        appraisal = {APPRAISAL[label]: value for label, value in appraisal.items()}
        appraisal["ear_status"] = tier[appraisal["ear_status"]]
        vector = appraisal["ear_trustworthiness_vector"]
        appraisal["ear_trustworthiness_vector"] = {VECTOR[key]: value for key, value in vector.items()}
        submods[name] = appraisal
    out["submods"] = submods
    return out


def spoiled(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def check_jwt(path, key, jwk):
    token = path.read_text().strip()
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "eat+jwt" and header["kid"] == jwk["kid"], header
    claims = jwt.decode(token, key, algorithms=["ES256"], options={"require": ["iat"]})
    assert claims == jwt.decode(token, jwt.PyJWK(jwk).key, algorithms=["ES256"])
    head, body, signature = token.split(".")
    body = base64.urlsafe_b64decode(body + "==").replace(b'"ear_status":"', b'"ear_status":"x', 1)
    forged = ".".join([head, base64.urlsafe_b64encode(body).rstrip(b"=").decode(), signature])
    try:
        jwt.decode(forged, key, algorithms=["ES256"])
    except jwt.InvalidSignatureError:
        return claims
    raise AssertionError("a changed JWT verifies")


def check_cwt(path, jwk):
    data = path.read_bytes()
    number = lambda text: base64.urlsafe_b64decode(text + "=")
    key = EC2Key(crv="P_256", x=number(jwk["x"]), y=number(jwk["y"]))

    def verifies(data):
        message = CoseMessage.decode(data)
        message.key = key
        return message, message.verify_signature()

    message, good = verifies(data)
    assert good, path
    assert message.phdr[Algorithm].fullname == "ES256", message.phdr
    assert message.phdr[KID].hex() == jwk["kid"], message.phdr
    assert not verifies(spoiled(data, len(data) - 1))[1], "a changed CWT verifies"
    assert not verifies(spoiled(data, data.index(b"Mote")))[1], "a changed CWT verifies"
    return cbor2.loads(message.payload)


def main():
    directory = pathlib.Path(sys.argv[1])
    key = load_pem_public_key((directory / "key.pem").read_bytes())
    jwk = json.loads((directory / "key.jwk").read_text())
    for tier, code in TIERS.items():
        claims = check_jwt(directory / f"{tier}.jwt", key, jwk)
        cbor = check_cwt(directory / f"{tier}.cwt", jwk)
        assert claims["eat_profile"] == PROFILE == cbor[265]
        assert claims["ear_status"] == tier and cbor[1000] == code, (claims, cbor)
        assert cbor[10] == NONCE
        assert set(cbor[266]) == {"tpm", "boot", "ima"}, cbor
        statuses, claimed = set(), []
        for label, appraisal in cbor[266].items():
            vector, status = appraisal[1001], appraisal[1000]
            assert vector and appraisal[1003], f"{label}: no claim, or no policy"
            tiers = [max(below for below in TIERS.values() if below <= value) for value in vector.values()]
            assert status == max(tiers), f"{label}: {status} is not the tier of its worst claim, {vector}"
            statuses.add(status)
            claimed += vector.values()
        assert code == max(statuses), "the status is not that of the worst module"
        # What speaks for a device must expire.
        assert (4 in cbor) == any(2 <= value < 96 for value in claimed), cbor
        # Issued within a second of each other.
        assert 0 <= cbor[6] - claims["iat"] <= 5
        same = in_json(cbor)
        same["iat"] = claims["iat"]
        assert same == claims, (same, claims)
        print(f"{tier}: JWT and CWT verify and say the same")


main()
