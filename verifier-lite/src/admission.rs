//! What admits a device: its endorsement key on an allow list, or in a certificate that chains to a given
//! root. Otherwise it stays pending until somebody admits it by hand.
//!
//! The key and the certificate are the peer's word. A certificate vouches for the key alone, not for the
//! rest of the public area; that the device holds the key, [`crate::credential`] shows. TCG EK Credential
//! Profile 2.5, 3.2 (fields of the certificate); RFC 5280 (the chain). Revocation is not looked at.

use std::collections::HashSet;
use std::fmt;

use mote_schemas::reason::Reason;
use mote_schemas::tpm::{EccCurve, HashAlg, Key, MAX_ECC_UNCOMPRESSED, Public, hash};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::der::{self, BIT_STRING, INTEGER, OID, SEQUENCE};

/// An endorsement key's identity: SHA-256 of its `TPMT_PUBLIC`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EkId([u8; 32]);

impl EkId {
    /// Of this key.
    pub fn of(ek: &Public<'_>) -> Self {
        let digest = hash(HashAlg::Sha256, &[ek.as_bytes()]);
        let mut id = [0; 32];
        id.copy_from_slice(digest.as_bytes());
        EkId(id)
    }

    /// From 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut id = [0; 32];
        if digits.len() != 2 * id.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(EkId(id))
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for EkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EkId({self})")
    }
}

/// An allow list or a certificate file that cannot be used; the one in force stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulesError {
    /// A line of the allow list, counted from 1, that is no SHA-256 in hexadecimal.
    AllowListLine(usize),
    /// No `CERTIFICATE` block in PEM that was meant to hold some.
    NoCertificate,
    /// A certificate, counted from 1, that cannot be a root.
    BadRoot(usize),
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RulesError::AllowListLine(line) => write!(
                f,
                "line {line}: expected the SHA-256 of an EK's TPMT_PUBLIC, 64 hexadecimal digits"
            ),
            RulesError::NoCertificate => f.write_str("no -----BEGIN CERTIFICATE----- block"),
            RulesError::BadRoot(number) => write!(f, "certificate {number} cannot be a root"),
        }
    }
}

impl std::error::Error for RulesError {}

/// Whom to admit without asking. The default admits nobody.
#[derive(Clone, Debug, Default)]
pub struct AdmissionRules {
    allowed: HashSet<EkId>,
    roots: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
}

impl AdmissionRules {
    /// Admits this key.
    pub fn allow(&mut self, id: EkId) {
        self.allowed.insert(id);
    }

    /// Admits the keys of a list: one SHA-256 a line, in hexadecimal, then anything (a name, say); `#`
    /// starts a comment. On error nothing is added.
    pub fn allow_listed(&mut self, text: &str) -> Result<(), RulesError> {
        let mut ids = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            if let Some(word) = line.split_whitespace().next() {
                ids.push(EkId::parse(word).ok_or(RulesError::AllowListLine(index + 1))?);
            }
        }
        self.allowed.extend(ids);
        Ok(())
    }

    /// Admits keys in certificates that chain to these roots (PEM). On error nothing is added.
    pub fn trust_roots(&mut self, pem: &[u8]) -> Result<(), RulesError> {
        let roots = certificates(pem)?
            .iter()
            .enumerate()
            .map(|(index, der)| {
                webpki::anchor_from_trusted_cert(der)
                    .map(|anchor| anchor.to_owned())
                    .map_err(|_| RulesError::BadRoot(index + 1))
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.roots.extend(roots);
        Ok(())
    }

    /// Certificates (PEM) that may stand between a root and a device's; no trust of their own.
    pub fn add_intermediates(&mut self, pem: &[u8]) -> Result<(), RulesError> {
        self.intermediates.extend(certificates(pem)?);
        Ok(())
    }

    /// What becomes of a device with this endorsement key and certificate (DER; may be followed by the
    /// rest of the NV index it was read from).
    pub fn decide(&self, ek: &Public<'_>, certificate: Option<&[u8]>, now: UnixTime) -> Admission {
        let checked = certificate.map(|certificate| self.check(ek, certificate, now));
        if let Some(Err(error @ CertificateError::Mismatch)) = checked {
            return Admission::Refused(error);
        }
        if self.allowed.contains(&EkId::of(ek)) {
            return Admission::Admitted(Grounds::AllowList);
        }
        match checked {
            Some(Ok(())) => Admission::Admitted(Grounds::Certificate),
            Some(Err(error)) => Admission::Pending(Pending::Certificate(error)),
            None => Admission::Pending(Pending::NoCertificate),
        }
    }

    fn check(
        &self,
        ek: &Public<'_>,
        certificate: &[u8],
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let der = der::first_element(certificate).ok_or(CertificateError::Malformed)?;
        let der = CertificateDer::from(der);
        let leaf = EndEntityCert::try_from(&der).map_err(|error| CertificateError::of(&error))?;
        if !is_key_of(ek, leaf.subject_public_key_info().as_ref()).unwrap_or(false) {
            return Err(CertificateError::Mismatch);
        }
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.roots,
            &self.intermediates,
            now,
            AnyUsage,
            None,
            None,
        )
        .map_err(|error| CertificateError::of(&error))?;
        if !is_for_endorsement_key(&der) {
            return Err(CertificateError::WrongUsage);
        }
        Ok(())
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, RulesError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| RulesError::NoCertificate)?;
    if found.is_empty() {
        return Err(RulesError::NoCertificate);
    }
    Ok(found)
}

/// Decision about a device that is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may attest.
    Admitted(Grounds),
    /// It waits until somebody admits it by hand.
    Pending(Pending),
    /// It presents somebody else's certificate.
    Refused(CertificateError),
}

/// Why a device was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// Its key is on the allow list.
    AllowList,
    /// Its certificate chains to a given root.
    Certificate,
}

/// Why a device waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// It has no certificate and is on no list.
    NoCertificate,
    /// Its certificate does not admit it.
    Certificate(CertificateError),
}

impl Pending {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        match self {
            Pending::NoCertificate => Reason::AdmissionPending,
            Pending::Certificate(error) => error.reason(),
        }
    }
}

/// Why a certificate does not admit its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// Not a certificate.
    Malformed,
    /// It is about another key than the device's.
    Mismatch,
    /// Its time, or that of a certificate above it, is over.
    Expired,
    /// Its time, or that of a certificate above it, has not begun.
    NotYetValid,
    /// No path leads to a given root: the root or an intermediate is missing, or it is another vendor's.
    UnknownIssuer,
    /// A signature in the chain is wrong.
    BadSignature,
    /// It is not for an endorsement key (`tcg-kp-EKCertificate`, 2.23.133.8.1).
    WrongUsage,
    /// It, or a certificate above it, has a critical extension that is not understood here.
    CriticalExtension,
    /// Signed with an algorithm that is not trusted here, such as SHA-1.
    UnsupportedAlgorithm,
    /// Another fault of the chain, in `webpki`'s words.
    Invalid(String),
}

impl CertificateError {
    fn of(error: &webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::BadDer | Error::TrailingData(_) | Error::UnsupportedCertVersion => {
                CertificateError::Malformed
            }
            Error::CertExpired { .. } => CertificateError::Expired,
            Error::CertNotValidYet { .. } => CertificateError::NotYetValid,
            Error::UnknownIssuer => CertificateError::UnknownIssuer,
            Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
            Error::UnsupportedCriticalExtension => CertificateError::CriticalExtension,
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                CertificateError::UnsupportedAlgorithm
            }
            other => CertificateError::Invalid(format!("{other:?}")),
        }
    }

    /// The reason to give.
    pub fn reason(&self) -> Reason {
        match self {
            CertificateError::Malformed => Reason::EkCertificateUntrusted,
            CertificateError::Mismatch => Reason::EkCertificateMismatch,
            CertificateError::Expired | CertificateError::NotYetValid => {
                Reason::EkCertificateUntrusted
            }
            CertificateError::WrongUsage => Reason::EkCertificateUntrusted,
            CertificateError::CriticalExtension => Reason::EkCertificateUntrusted,
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedAlgorithm
            | CertificateError::Invalid(_) => Reason::EkCertificateUntrusted,
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the EK certificate ")?;
        f.write_str(match self {
            CertificateError::Malformed => "is not a certificate",
            CertificateError::Mismatch => "is about another key than the device's",
            CertificateError::Expired => "or one above it has expired",
            CertificateError::NotYetValid => "or one above it is not valid yet",
            CertificateError::UnknownIssuer => {
                "leads to no given root: a root or an intermediate is missing"
            }
            CertificateError::BadSignature => "or one above it has a wrong signature",
            CertificateError::WrongUsage => {
                "is not for an endorsement key (usage 2.23.133.8.1 is missing)"
            }
            CertificateError::CriticalExtension => {
                "or one above it has a critical extension that is not understood here"
            }
            CertificateError::UnsupportedAlgorithm => {
                "or one above it is signed with an algorithm that is not trusted here"
            }
            CertificateError::Invalid(what) => return write!(f, "does not hold: {what}"),
        })
    }
}

impl std::error::Error for CertificateError {}

/// Asks nothing of extended key usages: vendors' intermediates carry none or others, so only the leaf's
/// are looked at, by [`is_for_endorsement_key`].
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Whether the certificate carries `tcg-kp-EKCertificate` (EK Credential Profile, 3.5.1).
fn is_for_endorsement_key(certificate: &[u8]) -> bool {
    const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    const TCG_KP_EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
    let Some(mut value) = der::extension(certificate, EXTENDED_KEY_USAGE) else {
        return false;
    };
    let Some(mut purposes) = der::expect(&mut value, SEQUENCE) else {
        return false;
    };
    std::iter::from_fn(|| der::expect(&mut purposes, OID)).any(|oid| oid == TCG_KP_EK_CERTIFICATE)
}

/// Whether a `SubjectPublicKeyInfo` is this key; `None` if it cannot be read.
fn is_key_of(ek: &Public<'_>, mut spki: &[u8]) -> Option<bool> {
    const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    // Some vendors name the padding that the key is used with (RFC 4055, 4.1).
    const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
    const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

    let mut info = der::expect(&mut spki, SEQUENCE)?;
    let mut algorithm = der::expect(&mut info, SEQUENCE)?;
    let oid = der::expect(&mut algorithm, OID)?;
    // The first octet of a BIT STRING counts unused bits: none in a key.
    let mut bits = der::expect(&mut info, BIT_STRING)?.strip_prefix(&[0])?;
    match ek.key() {
        Key::Rsa { modulus, exponent } => {
            let mut key = der::expect(&mut bits, SEQUENCE)?;
            let n = der::expect(&mut key, INTEGER)?;
            let e = der::expect(&mut key, INTEGER)?;
            Some(
                (oid == RSA_ENCRYPTION || oid == RSAES_OAEP)
                    && same_number(n, modulus)
                    && same_number(e, &exponent.to_be_bytes()),
            )
        }
        Key::Ecc(point) => {
            let curve = match point.curve {
                EccCurve::P256 => PRIME256V1,
                EccCurve::P384 => SECP384R1,
            };
            let mut buffer = [0; MAX_ECC_UNCOMPRESSED];
            Some(
                oid == EC_PUBLIC_KEY
                    && der::expect(&mut algorithm, OID)? == curve
                    && bits == point.uncompressed(&mut buffer),
            )
        }
    }
}

/// Whether two big-endian numbers are the same, leading zeros aside.
fn same_number(a: &[u8], b: &[u8]) -> bool {
    let digits = |number: &[u8]| number.iter().position(|byte| *byte != 0);
    match (digits(a), digits(b)) {
        (Some(i), Some(j)) => a[i..] == b[j..],
        (None, None) => true,
        _ => false,
    }
}
