//! The `COSE_Sign1` around a policy: everything in the file is attacker's until its signature is checked.

use std::path::Path;

use super::{MAX_POLICY, Policy, PolicyError, codec};
use crate::manifest::envelope::{Envelope, read_file, seal};
use crate::signing_key::{PublicKey, SigningKey};

const CONTENT_TYPE: &str = "application/vnd.mote.policy+cbor";

/// The policy signed with `key`, as it goes into a file. Same policy, same key: same bytes.
pub fn sign(policy: &Policy, key: &SigningKey) -> Result<Vec<u8>, PolicyError> {
    let policy = policy.clone().checked()?;
    seal(CONTENT_TYPE, &codec::encode(&policy), key)
}

/// A file that looks like a signed policy. Nothing in it is believed yet.
#[derive(Clone, Debug)]
pub struct SignedPolicy(Envelope);

impl SignedPolicy {
    /// Reads a file of at most [`MAX_POLICY`] bytes. Errors name it.
    pub fn read(file: &Path) -> Result<Self, PolicyError> {
        let bytes = read_file(file, MAX_POLICY)?;
        Self::parse(&bytes).map_err(|error| error.in_file(file))
    }

    /// Takes the envelope apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        Envelope::parse(bytes, CONTENT_TYPE, MAX_POLICY).map(Self)
    }

    /// Key id of the claimed signer.
    pub fn key_id(&self) -> [u8; 8] {
        self.0.key_id()
    }

    /// What the file says. **Not verified.**
    pub fn claims(&self) -> Result<Policy, PolicyError> {
        self.0.claims(codec::decode)
    }

    /// The proof that one of `trusted` signed exactly this policy.
    pub fn verify<'k>(
        &self,
        trusted: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<VerifiedPolicy, PolicyError> {
        self.0.verify(trusted)?;
        Ok(VerifiedPolicy {
            policy: self.claims()?,
            key_id: self.0.key_id(),
            digest: self.0.digest(),
        })
    }
}

/// A policy that a trusted key signed. Only [`SignedPolicy::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPolicy {
    policy: Policy,
    key_id: [u8; 8],
    digest: [u8; 32],
}

impl VerifiedPolicy {
    /// What was signed.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Key id of who signed it.
    pub fn key_id(&self) -> [u8; 8] {
        self.key_id
    }

    /// SHA-256 of the whole file.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
