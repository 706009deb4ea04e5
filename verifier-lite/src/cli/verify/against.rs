//! What evidence in a file is compared with: manifests, keys and a policy, from files as well.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{Failure, policy::read_json};
use crate::ima_signature::Keyring;
use crate::manifest::VerifiedManifest;
use crate::manifest::envelope::read_file;
use crate::policy::{EffectivePolicy, MAX_POLICY, Policy, SignedPolicy};
use crate::signing_key::PublicKey;

#[derive(Args, Debug)]
pub(in crate::cli) struct Against {
    /// Signed reference values of an image version. May be given several times.
    #[arg(long, value_name = "FILE")]
    manifest: Vec<PathBuf>,

    /// Public key that manifests must be signed with. May be given several times.
    #[arg(long, value_name = "KEY.pub")]
    manifest_key: Vec<PathBuf>,

    /// Certificates or public keys whose IMA signature accounts for a file that no manifest lists.
    #[arg(long, value_name = "FILE")]
    ima_key: Vec<PathBuf>,

    /// Kernel keyring whose measured additions are trusted as --ima-key, such as .ima.
    #[arg(long, value_name = "KEYRING", value_parser = Keyring::kernel_name)]
    ima_keyring: Vec<String>,
}

impl Against {
    /// What there must be for a verdict.
    pub(in crate::cli) fn check(&self) -> Result<(), Failure> {
        if self.manifest.is_empty() || self.manifest_key.is_empty() {
            return Err(
                "give --manifest and --manifest-key: with nothing to compare with, there is \
                        no verdict"
                    .into(),
            );
        }
        Ok(())
    }

    /// The manifests and keys, under this policy; `now`: Unix milliseconds.
    pub(in crate::cli) fn load(
        &self,
        policy: &Policy,
        now: u64,
    ) -> Result<EffectivePolicy, Failure> {
        let trusted = keys(&self.manifest_key)?;
        let manifests = self
            .manifest
            .iter()
            .map(|file| VerifiedManifest::read(file, &trusted))
            .collect::<Result<Vec<_>, _>>()?;
        let mut keyring = Keyring::default();
        for file in &self.ima_key {
            keyring.add_file(file)?;
        }
        for name in &self.ima_keyring {
            keyring.learn_from(name);
        }
        let signed = !self.ima_key.is_empty() || !self.ima_keyring.is_empty();
        let keyring = signed.then_some(&keyring);
        Ok(EffectivePolicy::of_files(policy, &manifests, keyring, now)?)
    }
}

fn keys(files: &[PathBuf]) -> Result<Vec<PublicKey>, Failure> {
    Ok(files
        .iter()
        .map(|file| PublicKey::load(file))
        .collect::<Result<_, _>>()?)
}

/// A policy in a file that somebody answers for: in JSON whoever gives it here, signed one of `signers`.
pub(super) fn read_policy(file: &Path, signers: &[PathBuf]) -> Result<Policy, Failure> {
    let bytes = read_file(file, MAX_POLICY)?;
    if bytes.first() != Some(&0xD2) {
        return read_json(file);
    }
    let signers = keys(signers)?;
    if signers.is_empty() {
        return Err(Failure(format!(
            "{}: is signed; give the signer with --policy-key",
            file.display()
        )));
    }
    let verified = SignedPolicy::parse(&bytes).and_then(|signed| signed.verify(&signers));
    let verified = verified.map_err(|error| error.in_file(file))?;
    Ok(verified.policy().clone())
}
