//! What PK, KEK, db and dbx held: each as a whole, or signature by signature.

use mote_schemas::bootlog::{Event, Guid, Signature, Signatures};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{HashAlg, hash};

use super::appraisal::Deviation;
use super::events::{Check, SECURE_BOOT_PCR};
use crate::manifest::{FileDigest, KeyVariable};

const REASON: Reason = Reason::SecureBootKeysUnexpected;

/// What a manifest says of one variable.
#[derive(Clone, Copy)]
struct Rules<'c> {
    whole: Option<&'c [FileDigest]>,
    allowed: Option<&'c [FileDigest]>,
    required: &'c [FileDigest],
}

/// Notes each variable that is not as expected.
pub(super) fn check(check: &mut Check<'_, '_>) {
    let expected = check.expected;
    let of = |key| Rules {
        whole: expected.keys.get(&key).map(Vec::as_slice),
        allowed: expected.allowed_signatures.get(&key).map(Vec::as_slice),
        required: expected
            .required_signatures
            .get(&key)
            .map_or(&[], Vec::as_slice),
    };
    let rules: Vec<_> = KeyVariable::ALL
        .into_iter()
        .map(|key| (key, of(key)))
        .filter(|(_, rules)| !rules.are_none())
        .collect();
    if rules.is_empty() || !check.can_judge(SECURE_BOOT_PCR, REASON) {
        return;
    }
    let variables = check.variables();
    for (key, rules) in rules {
        let mut measured = variables
            .iter()
            .filter(|(_, variable)| variable.guid == key.guid() && variable.name == *key.name())
            .peekable();
        if measured.peek().is_none() {
            let note = format!("the firmware did not measure the variable {}", key.name());
            let missing = Deviation::of_pcr(REASON, SECURE_BOOT_PCR);
            let expected = texts(rules.any());
            check
                .found
                .push(missing.with_note(note).with_expected(expected));
            continue;
        }
        for (event, variable) in measured {
            rules.judge(check, event, key, variable.value);
        }
    }
}

impl Rules<'_> {
    fn are_none(&self) -> bool {
        self.whole.is_none() && self.allowed.is_none() && self.required.is_empty()
    }

    /// Something that would have been right.
    fn any(&self) -> &[FileDigest] {
        self.whole.or(self.allowed).unwrap_or(self.required)
    }

    fn judge(&self, check: &mut Check<'_, '_>, event: &Event<'_>, key: KeyVariable, value: &[u8]) {
        let name = key.name();
        if let Some(whole) = self.whole {
            let digest = hash(HashAlg::Sha256, &[value]);
            if !is_among(whole, digest.as_bytes()) {
                let deviation = check
                    .of_event(REASON, event)
                    .with_measured(digest.as_bytes())
                    .with_expected(texts(whole))
                    .with_note(format!("SHA-256 of the contents of {name}"));
                check.found.push(deviation);
            }
        }
        if self.allowed.is_none() && self.required.is_empty() {
            return;
        }
        let Ok(held) = Signatures::new(value).collect::<Result<Vec<_>, _>>() else {
            let note = format!("the contents of {name} are not EFI_SIGNATURE_LISTs");
            let deviation = check.of_event(REASON, event).with_note(note);
            check.found.push(deviation);
            return;
        };
        let held: Vec<_> = held
            .into_iter()
            .map(|signature| (signature, signature.digest()))
            .collect();
        if let Some(allowed) = self.allowed {
            for (signature, digest) in &held {
                if !is_among(allowed, digest.as_bytes()) {
                    let deviation = check
                        .of_event(REASON, event)
                        .with_measured(digest.as_bytes())
                        .with_expected(texts(allowed))
                        .with_note(format!("{name} holds {}", words(signature)));
                    check.found.push(deviation);
                }
            }
        }
        let missing: Vec<_> = self
            .required
            .iter()
            .filter(|required| !held.iter().any(|(_, held)| held.as_bytes() == required.0))
            .copied()
            .collect();
        if !missing.is_empty() {
            let (lacks, of) = (missing.len(), self.required.len());
            let note = format!("{name} lacks {lacks} of {of} signatures that it must hold");
            let deviation = check
                .of_event(REASON, event)
                .with_expected(texts(&missing))
                .with_note(note);
            check.found.push(deviation);
        }
    }
}

/// What a signature is, for people.
pub(crate) fn words(signature: &Signature<'_>) -> String {
    let what = match signature.kind {
        Guid::CERT_X509 => format!("a certificate of {} bytes", signature.data.len()),
        Guid::CERT_SHA256 => format!("the digest {}", crate::hex::encode(signature.data)),
        kind => format!("{} bytes of type {kind}", signature.data.len()),
    };
    format!("{what}, owner {}", signature.owner)
}

fn is_among(list: &[FileDigest], digest: &[u8]) -> bool {
    list.iter().any(|allowed| allowed.0[..] == *digest)
}

fn texts(list: &[FileDigest]) -> impl Iterator<Item = Vec<u8>> {
    list.iter().map(|digest| digest.0.to_vec())
}
