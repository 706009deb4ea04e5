//! What admits a device and what does not, with certificates as manufacturers make them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::common::{Swtpm, TempDir, run, unhex};
use mote_schemas::tpm::{Public, tpm2b};
use mote_verifier::admission::{
    Admission, AdmissionRules, CertificateError, EkId, Grounds, Pending, RulesError,
};
use rustls_pki_types::UnixTime;

fn now_plus_days(days: u64) -> UnixTime {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    UnixTime::since_unix_epoch(now + Duration::from_secs(days * 86_400))
}

fn pending(error: CertificateError) -> Admission {
    Admission::Pending(Pending::Certificate(error))
}

/// Runs `openssl`; words are split at blanks.
fn openssl(dir: &Path, line: &str) {
    run(Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(dir));
}

/// A certificate authority for tests: a root, and devices' P-256 keys with certificates under it.
struct Ca {
    dir: TempDir,
}

/// Extensions as the EK Credential Profile has them; the subject is empty, so that
/// `subjectAltName` is critical and names the TPM's maker and model.
const EK_EXTENSIONS: &str = "
    basicConstraints = critical, CA:FALSE
    keyUsage = critical, keyAgreement
    subjectAltName = critical, dirName:tpm
";

const EK_USAGE: &str = "extendedKeyUsage = 2.23.133.8.1\n";

impl Ca {
    fn new() -> Self {
        let ca = Ca {
            dir: TempDir::new("ca"),
        };
        ca.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
             -subj /CN=root -keyout root.key -out root.pem",
        );
        ca
    }

    fn openssl(&self, line: &str) {
        openssl(self.dir.path(), line);
    }

    fn rules(&self) -> AdmissionRules {
        let mut rules = AdmissionRules::default();
        rules
            .trust_roots(&fs::read(self.dir.file("root.pem")).unwrap())
            .unwrap();
        rules
    }

    /// A device: its EK's `TPMT_PUBLIC`, and a certificate for that key, valid for 10 days.
    fn device(&self, extensions: &str) -> (Vec<u8>, Vec<u8>) {
        self.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ek.key");
        self.openssl("pkey -in ek.key -pubout -out ek.pem");
        self.openssl("pkey -in ek.key -pubout -outform DER -out ek.der");
        // OpenSSL drops the first number of such a field's name.
        let tpm = "[tpm]\n1.2.23.133.2.1 = id:53544D20\n1.2.23.133.2.2 = ST33\n\
                   1.2.23.133.2.3 = id:00010101\n";
        fs::write(self.dir.file("extensions"), format!("{extensions}\n{tpm}")).unwrap();
        self.openssl(
            "x509 -new -force_pubkey ek.pem -subj / -days 10 -CA root.pem -CAkey root.key \
             -extfile extensions -outform DER -out ek.crt",
        );
        let spki = fs::read(self.dir.file("ek.der")).unwrap();
        // The L-2 template: EK Credential Profile 2.5, B.4.4.
        let mut public = unhex(
            "0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa\
             00060080004300100003001000",
        );
        let point = &spki[spki.len() - 64..];
        public.pop();
        for coordinate in point.chunks(32) {
            public.extend([0, 32]);
            public.extend(coordinate);
        }
        (public, fs::read(self.dir.file("ek.crt")).unwrap())
    }
}

#[test]
fn a_device_is_pending_unless_something_admits_it() {
    let ca = Ca::new();
    let (public, certificate) = ca.device(&(EK_EXTENSIONS.to_owned() + EK_USAGE));
    let ek = Public::parse(&public).unwrap();
    let nobody = AdmissionRules::default();
    let now = now_plus_days(1);
    assert_eq!(
        nobody.decide(&ek, None, now),
        Admission::Pending(Pending::NoCertificate)
    );
    assert_eq!(
        nobody.decide(&ek, Some(&certificate), now),
        pending(CertificateError::UnknownIssuer)
    );

    let mut listed = AdmissionRules::default();
    let id = EkId::of(&ek);
    listed
        .allow_listed(&format!("# pumps\n\n{id} pump-17 # the old one\n"))
        .unwrap();
    assert_eq!(
        listed.decide(&ek, None, now),
        Admission::Admitted(Grounds::AllowList)
    );
    // A certificate that does not help does not hurt either.
    assert_eq!(
        listed.decide(&ek, Some(b"no certificate"), now),
        Admission::Admitted(Grounds::AllowList)
    );

    assert_eq!(
        ca.rules().decide(&ek, Some(&certificate), now),
        Admission::Admitted(Grounds::Certificate)
    );
    let padded = [&certificate[..], &[0xff; 100]].concat();
    assert_eq!(
        ca.rules().decide(&ek, Some(&padded), now),
        Admission::Admitted(Grounds::Certificate)
    );
}

#[test]
fn a_certificate_that_does_not_hold_leaves_the_device_pending_and_says_why() {
    let ca = Ca::new();
    let (public, certificate) = ca.device(&(EK_EXTENSIONS.to_owned() + EK_USAGE));
    let ek = Public::parse(&public).unwrap();
    let rules = ca.rules();
    let decide =
        |certificate: &[u8], days| rules.decide(&ek, Some(certificate), now_plus_days(days));

    assert_eq!(decide(&certificate, 11), pending(CertificateError::Expired));
    assert_eq!(
        rules.decide(
            &ek,
            Some(&certificate),
            UnixTime::since_unix_epoch(Duration::ZERO)
        ),
        pending(CertificateError::NotYetValid)
    );
    assert_eq!(
        Ca::new()
            .rules()
            .decide(&ek, Some(&certificate), now_plus_days(1)),
        // The other root has the same name, so the signature is tried and found wrong.
        pending(CertificateError::BadSignature)
    );
    let mut changed = certificate.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(decide(&changed, 1), pending(CertificateError::BadSignature));
    for len in 0..certificate.len() {
        assert_eq!(
            decide(&certificate[..len], 1),
            pending(CertificateError::Malformed),
            "{len} bytes"
        );
    }
}

#[test]
fn a_certificate_with_any_changed_byte_does_not_admit() {
    let ca = Ca::new();
    let (public, certificate) = ca.device(&(EK_EXTENSIONS.to_owned() + EK_USAGE));
    let ek = Public::parse(&public).unwrap();
    let rules = ca.rules();
    for at in 0..certificate.len() {
        for mask in [0x01, 0x80] {
            let mut changed = certificate.clone();
            changed[at] ^= mask;
            let decision = rules.decide(&ek, Some(&changed), now_plus_days(1));
            assert!(
                !matches!(decision, Admission::Admitted(_)),
                "byte {at}, mask {mask:#x}"
            );
        }
    }
}

#[test]
fn a_certificate_for_another_use_does_not_admit() {
    let ca = Ca::new();
    for (usage, error) in [
        ("", CertificateError::WrongUsage),
        (
            "extendedKeyUsage = clientAuth\n",
            CertificateError::WrongUsage,
        ),
        // tcg-kp-AIKCertificate.
        (
            "extendedKeyUsage = 2.23.133.8.3\n",
            CertificateError::WrongUsage,
        ),
        (
            "extendedKeyUsage = 2.23.133.8.1\n1.2.3.4 = critical, ASN1:NULL\n",
            CertificateError::CriticalExtension,
        ),
    ] {
        let (public, certificate) = ca.device(&(EK_EXTENSIONS.to_owned() + usage));
        assert_eq!(
            ca.rules().decide(
                &Public::parse(&public).unwrap(),
                Some(&certificate),
                now_plus_days(1)
            ),
            pending(error),
            "{usage}"
        );
    }
}

#[test]
fn somebody_elses_certificate_is_refused_even_for_a_listed_key() {
    let ca = Ca::new();
    let extensions = EK_EXTENSIONS.to_owned() + EK_USAGE;
    let (public, _) = ca.device(&extensions);
    let (_, certificate) = ca.device(&extensions);
    let ek = Public::parse(&public).unwrap();
    let mut rules = ca.rules();
    let refused = Admission::Refused(CertificateError::Mismatch);
    assert_eq!(
        rules.decide(&ek, Some(&certificate), now_plus_days(1)),
        refused
    );
    rules.allow(EkId::of(&ek));
    assert_eq!(
        rules.decide(&ek, Some(&certificate), now_plus_days(1)),
        refused
    );
    assert_eq!(
        CertificateError::Mismatch.reason().token(),
        "ek-certificate-mismatch"
    );
}

#[test]
fn rules_that_cannot_be_read_are_refused_whole() {
    let mut rules = AdmissionRules::default();
    let id = "00".repeat(32);
    assert_eq!(
        rules.allow_listed(&format!("{id}\n\n{id}00\n")),
        Err(RulesError::AllowListLine(3))
    );
    assert_eq!(
        rules.trust_roots(b"no certificate"),
        Err(RulesError::NoCertificate)
    );
    assert_eq!(
        rules.add_intermediates(b"-----BEGIN CERTIFICATE-----\n&\n-----END CERTIFICATE-----\n"),
        Err(RulesError::NoCertificate)
    );
    assert_eq!(EkId::parse(&id).unwrap().to_string(), id);
    assert_eq!(EkId::parse(&id[1..]), None);
    assert_eq!(EkId::parse(&"+1".repeat(32)), None);
}

#[test]
fn certificates_of_a_manufactured_tpm_admit_it() {
    let tpm = Swtpm::manufactured();
    let mut rules = AdmissionRules::default();
    rules
        .trust_roots(&tpm.read("ca/swtpm-localca-rootca-cert.pem"))
        .unwrap();
    let without_intermediate = rules.clone();
    rules
        .add_intermediates(&tpm.read("ca/issuercert.pem"))
        .unwrap();

    // RSA-2048 and ECC P-384: handle of the EK, NV index of its certificate.
    for (handle, index) in [("0x81010001", "0x1c00002"), ("0x81010016", "0x1c00016")] {
        tpm.tool(&format!("tpm2_readpublic -c {handle} -o ek.pub -f tss"));
        tpm.tool(&format!("tpm2_nvread -C o {index} -o ek.crt"));
        let (public, certificate) = (tpm.read("ek.pub"), tpm.read("ek.crt"));
        let ek = Public::parse(tpm2b(&public, 1024).unwrap()).unwrap();
        let now = now_plus_days(1);
        assert_eq!(
            rules.decide(&ek, Some(&certificate), now),
            Admission::Admitted(Grounds::Certificate),
            "{handle}"
        );
        assert_eq!(
            without_intermediate.decide(&ek, Some(&certificate), now),
            pending(CertificateError::UnknownIssuer),
            "{handle}"
        );
        let mut other = tpm2b(&public, 1024).unwrap().to_vec();
        let last = other.len() - 1;
        other[last] ^= 1;
        assert_eq!(
            rules.decide(&Public::parse(&other).unwrap(), Some(&certificate), now),
            Admission::Refused(CertificateError::Mismatch),
            "{handle}"
        );
    }
}
