"""Entity Attestation Tokens by pycose and cbor2, over aiocoap, against Mote (see eat.sh).

usage: eat.py BIN HOST:PORT, in a directory with boot.bin, app.bin and the verifier's state in MOTE_STATE
"""

import asyncio
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import aiocoap
import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pycose.algorithms import Es256
from pycose.headers import KID, Algorithm
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import CoseMessage, Sign1Message

EAT, CMW, SWID, CBOR = 263, 273, 258, 60
EVIDENCE = 1 << 2
# RFC 9277, 4.3: the tag of content format 263.
TAG = 0x63740101 + EAT // 255 * 256 + EAT % 255
REPLY_TIER, REPLY_NONCE, REPLY_REASONS = 1, 2, 4

failures = 0


def check(what, found, expected):
    global failures
    good = found == expected
    failures += not good
    print(f"{'ok   ' if good else 'FAIL '} {what}" + ("" if good else f": found {found!r}, expected {expected!r}"))


def cose_key(public, private=None):
    numbers = public.public_numbers()
    parts = {"crv": P256, "x": numbers.x.to_bytes(32, "big"), "y": numbers.y.to_bytes(32, "big")}
    if private:
        parts["d"] = private.private_numbers().private_value.to_bytes(32, "big")
    return EC2Key(**parts)


class Device:
    """An attester that shares no line with Mote."""

    def __init__(self):
        private = ec.generate_private_key(ec.SECP256R1())
        public = private.public_key()
        self.key = cose_key(public, private)
        self.pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id = hashlib.sha256(spki).digest()[:16]
        self.files = {"bootloader": "boot.bin", "app": "app.bin"}
        self.claims = {263: 3, 267: 1, 270: "valve", 271: ["2.1", 16384], 262: True, 258: b"\x00\x00\x01"}

    def coswid(self):
        files = [{24: name, 7: [1, hashlib.sha256(pathlib.Path(file).read_bytes()).digest()], 20: 12}
                 for name, file in self.files.items()]
        return cbor2.dumps({
            0: "valve-firmware", 12: 0, 1: "valve", 13: "2.1", 14: 16384, 15: "en",
            2: {31: "a bootloader", 32: "example.com", 33: [1, 2]},
            3: {17: files, 36: "valve-12"},
        })

    def token(self, nonce, key=None, alter=None, **claims):
        # Keys in no particular order, as a dict has them.
        all_claims = dict(self.claims) | {10: nonce, 273: [[SWID, self.coswid()]]} | (alter or {})
        message = Sign1Message(phdr={Algorithm: Es256, KID: self.id}, payload=cbor2.dumps(all_claims))
        message.key = key or self.key
        return message.encode()


def record(token, media_type=EAT):
    return cbor2.dumps([media_type, token, EVIDENCE])


async def main(program, address):
    motectl = f"{program}/motectl"
    device = Device()
    pathlib.Path("valve-12.pub").write_bytes(device.pem)
    subprocess.run([motectl, "device", "endorse", "valve-12.pub", "--name", "valve-12"], check=True,
                   stdout=subprocess.DEVNULL)
    verifier = cose_key(load_pem_public_key(pathlib.Path(os.environ["MOTE_STATE"], "verifier.pub").read_bytes()))
    client = await aiocoap.Context.create_client_context(transports=["simple6"])

    async def post(path, payload, content_format):
        def message(echo=None):
            request = aiocoap.Message(code=aiocoap.POST, uri=f"coap://{address}/{path}", payload=payload)
            request.opt.content_format = content_format
            request.opt.echo = echo
            return client.request(request).response

        answer = await message()
        if answer.code == aiocoap.UNAUTHORIZED and answer.opt.echo:
            return await message(answer.opt.echo)
        return answer

    async def nonce():
        answer = await post("n", cbor2.dumps({0: 1, 1: device.id}), CBOR)
        assert answer.code == aiocoap.CONTENT, answer.code
        return cbor2.loads(answer.payload)[0]

    async def accepted(what, wrapper, tier=2, reasons=None):
        """The verdict, under the verifier's signature; the next nonce."""
        answer = await post("c", wrapper, CMW)
        check(f"{what}: 2.04", answer.code, aiocoap.CHANGED)
        if answer.code != aiocoap.CHANGED:
            print(f"      {answer.payload!r}")
            return await nonce()
        sign1 = CoseMessage.decode(b"\xd2" + answer.payload)
        sign1.key = verifier
        sign1.external_aad = hashlib.sha256(wrapper).digest()
        check(f"{what}: pycose verifies the reply", sign1.verify_signature(), True)
        sign1.external_aad = hashlib.sha256(wrapper + b"x").digest()
        check(f"{what}: and not for another wrapper", sign1.verify_signature(), False)
        reply = cbor2.loads(sign1.payload)
        check(f"{what}: the verdict", (reply[REPLY_TIER], reply.get(REPLY_REASONS)), (tier, reasons))
        return reply[REPLY_NONCE][1]

    async def refused(what, wrapper, code, reason, content_format=CMW):
        answer = await post("c", wrapper, content_format)
        found = cbor2.loads(answer.payload)[0] if answer.payload else None
        check(f"{what}: {reason}", (answer.code, found), (code, reason))

    name = "pycose -> mote-verifier"
    fresh = await nonce()
    fresh = await accepted(f"{name}, record", record(device.token(fresh)))
    fresh = await accepted(f"{name}, record with a media type", record(device.token(fresh), "application/eat+cwt"))
    fresh = await accepted(f"{name}, tag", cbor2.dumps(cbor2.CBORTag(TAG, device.token(fresh))))
    collection = {"__cmwc_t": "tag:example.com,2026:x", "eat": [EAT, device.token(fresh)], 7: [CBOR, b"\xa0"]}
    fresh = await accepted(f"{name}, collection", cbor2.dumps(collection))
    tagged = cbor2.dumps(cbor2.CBORTag(61, cbor2.loads(device.token(fresh))))
    fresh = await accepted(f"{name}, CWT tag", record(tagged))
    fresh = await accepted(f"{name}, debug on", record(device.token(fresh, alter={263: 0})), 96, ["debug-enabled"])
    fresh = await accepted(f"{name}, submodules", record(device.token(fresh, alter={266: {"modem": {270: "m"}}})), 32,
                           ["claims-unappraised"])

    forbidden = aiocoap.FORBIDDEN
    good = device.token(fresh)
    parts = cbor2.loads(good).value
    claims = cbor2.loads(parts[2])
    forged = cbor2.dumps(cbor2.CBORTag(18, [parts[0], parts[1], cbor2.dumps(claims | {267: 9}), parts[3]]))
    stranger = Device()
    await refused(f"{name}, a claim changed", record(forged), forbidden, "token-signature-invalid")
    await refused(f"{name}, another key", record(device.token(fresh, key=stranger.key)), forbidden,
                  "token-signature-invalid")
    await refused(f"{name}, nobody's device", record(stranger.token(fresh)), aiocoap.NOT_FOUND, "device-unknown")
    await refused(f"{name}, another nonce", record(device.token(os.urandom(16))), forbidden, "token-wrong-nonce")
    await refused(f"{name}, expired", record(device.token(fresh, alter={4: 1_700_000_000})), forbidden, "token-expired")
    await refused(f"{name}, two nonces", record(device.token(fresh, alter={10: [fresh, fresh]})), aiocoap.BAD_REQUEST,
                  "token-malformed")
    await refused(f"{name}, another media type", record(good, "application/rim+cose"),
                  aiocoap.UNSUPPORTED_CONTENT_FORMAT, "media-type-unsupported")
    await refused(f"{name}, another content format", record(good), aiocoap.UNSUPPORTED_CONTENT_FORMAT,
                  "media-type-unsupported", CBOR)
    await accepted(f"{name}, none of that used the nonce up", record(good))
    await refused(f"{name}, once more", record(good), forbidden, "token-replayed")

    # More than a datagram: aiocoap sends blocks, which take an Echo.
    long = {-70_000: "x" * 1500}
    await accepted(f"{name}, in blocks", record(device.token(await nonce(), alter=long)))

    listed = json.loads(subprocess.check_output([motectl, "device", "list", "--json"]))
    check("motectl device list: trusted", [d["verdict"]["verdict"] for d in listed], ["trusted"])

    # Ours, read by them, and to the same verifier.
    name = "mote -> pycose"
    ours = [f"{program}/mote-token-device", "--key", "valve-13.key"]
    pem = subprocess.check_output([*ours, "--public"])
    pathlib.Path("valve-13.pub").write_bytes(pem)
    what = ["--name", "valve", "--version", "2.1", "--component", "bootloader=boot.bin", "--component", "app=app.bin"]
    wrapper = cbor2.loads(subprocess.check_output([*ours, "--nonce", "00112233445566778899aabbccddeeff", *what]))
    check(f"{name}: a record of content format 263", (wrapper[0], wrapper[2]), (EAT, EVIDENCE))
    token = CoseMessage.decode(wrapper[1])
    token.key = cose_key(load_pem_public_key(pem))
    check(f"{name}: the signature verifies", token.verify_signature(), True)
    claims = cbor2.loads(token.payload)
    check(f"{name}: the nonce", claims[10], bytes.fromhex("00112233445566778899aabbccddeeff"))
    [(content_format, coswid)] = claims[273]
    tag = cbor2.loads(coswid)
    check(f"{name}: a CoSWID", (content_format, tag[1], tag[13]), (SWID, "valve", "2.1"))
    files = {file[24]: file[7] for file in tag[3][17]}
    digest = lambda file: [1, hashlib.sha256(pathlib.Path(file).read_bytes()).digest()]
    check(f"{name}: its components", files, {"bootloader": digest("boot.bin"), "app": digest("app.bin")})
    check(f"{name}: deterministic", cbor2.dumps(claims, canonical=True), token.payload)
    subprocess.run([motectl, "device", "endorse", "valve-13.pub"], check=True, stdout=subprocess.DEVNULL)
    attest = [*ours, "--verifier", address, "--verifier-key", f"{os.environ['MOTE_STATE']}/verifier.pub", *what]
    check("mote-token-device: trusted over UDP", subprocess.check_output(attest), b"trusted \n")
    await client.shutdown()
    return failures


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 240)) else 0)
