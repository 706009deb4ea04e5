//! Credentials made in software are opened by a TPM, for the object they name and no other.

use crate::common::Swtpm;
use mote_schemas::tpm::{Name, Public, tpm2b};
use mote_verifier::credential::{Credential, EndorsementKey};

const SECRET: &[u8; 32] = b"thirty-two bytes, like a key all";

/// tpm2-tools' file of a credential: magic, version 1, `TPM2B_ID_OBJECT`, `TPM2B_ENCRYPTED_SECRET`.
fn credential_file(credential: &Credential) -> Vec<u8> {
    let mut file = vec![0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
    for part in [&credential.blob, &credential.encrypted_secret] {
        file.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        file.extend(part);
    }
    file
}

/// How an endorsement key lets itself be used.
#[derive(Clone, Copy)]
enum Auth {
    /// `TPM2_PolicySecret` of the endorsement hierarchy, as in the low-range EK templates.
    PolicySecret,
    /// The empty password.
    Password,
}

/// Whether the TPM opens what `credential.bin` holds with `ek.ctx` and `ak.ctx`, into `opened.bin`.
fn activates(tpm: &Swtpm, auth: Auth) -> bool {
    let _ = std::fs::remove_file(tpm.dir.file("opened.bin"));
    let activate =
        "tpm2_activatecredential -c ak.ctx -C ek.ctx -i credential.bin -o opened.bin".to_owned();
    match auth {
        Auth::Password => tpm.tool_succeeds(&activate),
        Auth::PolicySecret => {
            tpm.tool("tpm2_startauthsession --policy-session -S session.ctx");
            tpm.tool("tpm2_policysecret -S session.ctx -c e");
            let done = tpm.tool_succeeds(&(activate + " -P session:session.ctx"));
            tpm.tool("tpm2_flushcontext -s");
            done
        }
    }
}

fn round_trip(make_ek: &str, auth: Auth, ak_algorithm: &str) {
    let tpm = Swtpm::start();
    tpm.tool(make_ek);
    tpm.tool(&format!(
        "tpm2_createprimary -C e -G {ak_algorithm} -c ak.ctx -a \
         fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign|noda"
    ));
    tpm.tool("tpm2_readpublic -c ek.ctx -o ek.pub -f tss");
    tpm.tool("tpm2_readpublic -c ak.ctx -o ak.pub -n ak.name -f tss");

    let ek = tpm.read("ek.pub");
    let ek = Public::parse(tpm2b(&ek, 1024).unwrap()).unwrap();
    let ek = EndorsementKey::new(&ek).unwrap();
    let ak = tpm.read("ak.pub");
    let name = Public::parse(tpm2b(&ak, 1024).unwrap()).unwrap().name();
    assert_eq!(name, Name::parse(&tpm.read("ak.name")).unwrap());

    let made = ek.make_credential(&name, SECRET).unwrap();
    tpm.write("credential.bin", &credential_file(&made));
    assert!(activates(&tpm, auth), "the TPM opens the credential");
    assert_eq!(tpm.read("opened.bin"), SECRET);

    let mut other = name.as_bytes().to_vec();
    *other.last_mut().unwrap() ^= 1;
    let made = ek
        .make_credential(&Name::parse(&other).unwrap(), SECRET)
        .unwrap();
    tpm.write("credential.bin", &credential_file(&made));
    assert!(
        !activates(&tpm, auth),
        "a credential for another Name stays shut"
    );

    let mut made = ek.make_credential(&name, SECRET).unwrap();
    *made.blob.last_mut().unwrap() ^= 1;
    tpm.write("credential.bin", &credential_file(&made));
    assert!(!activates(&tpm, auth), "a changed credential stays shut");
}

const HIGH_RANGE: &str = "-c ek.ctx -a \
     fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt";

#[test]
fn an_rsa_2048_ek_opens_its_credential() {
    round_trip(
        "tpm2_createek -G rsa -c ek.ctx",
        Auth::PolicySecret,
        "rsa2048:rsassa-sha256:null",
    );
}

#[test]
fn an_ecc_p256_ek_opens_its_credential() {
    round_trip(
        "tpm2_createek -G ecc -c ek.ctx",
        Auth::PolicySecret,
        "ecc256:ecdsa-sha256:null",
    );
}

#[test]
fn an_ecc_p384_ek_with_sha384_and_aes_256_opens_its_credential() {
    round_trip(
        &format!("tpm2_createprimary -C e -g sha384 -G ecc384:aes256cfb {HIGH_RANGE}"),
        Auth::Password,
        "ecc384:ecdsa-sha384:null",
    );
}

#[test]
fn an_rsa_3072_ek_with_sha384_and_aes_256_opens_its_credential() {
    round_trip(
        &format!("tpm2_createprimary -C e -g sha384 -G rsa3072:aes256cfb {HIGH_RANGE}"),
        Auth::Password,
        "rsa2048:rsapss-sha256:null",
    );
}
