//! Trustworthiness vectors and the values of their claims (draft-ietf-rats-ar4si, 2.3).

use mote_schemas::message::Tier;

/// AR4SI claim values (draft-ietf-rats-ar4si, 2.3.4).
pub(super) mod value {
    /// Nothing is claimed.
    pub(in crate::ear) const NONE: i8 = 0;
    /// Recognized, genuine, approved.
    pub(in crate::ear) const AFFIRMING: i8 = 2;
    /// Worth a look.
    pub(in crate::ear) const WARNING: i8 = 32;
    /// Executables that are not recognized have been loaded.
    pub(in crate::ear) const UNRECOGNIZED: i8 = 33;
    /// Contraindicated.
    pub(in crate::ear) const CONTRAINDICATED: i8 = 96;
    /// Cryptographic validation of the evidence failed.
    pub(in crate::ear) const CRYPTO_FAILED: i8 = 99;
}

/// A claim that some module here can judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Which device it is.
    InstanceIdentity,
    /// How it is configured.
    Configuration,
    /// What it runs.
    Executables,
    /// What its files contain.
    FileSystem,
    /// Its TPM.
    Hardware,
}

impl Claim {
    const ALL: [(Self, &'static str); 5] = [
        (Self::InstanceIdentity, "instance-identity"),
        (Self::Configuration, "configuration"),
        (Self::Executables, "executables"),
        (Self::FileSystem, "file-system"),
        (Self::Hardware, "hardware"),
    ];
}

/// A trustworthiness vector: a claim is 0, or -128 to 127 by AR4SI's tiers; `None` is not made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vector([Option<i8>; Claim::ALL.len()]);

impl Vector {
    /// One that makes these claims, all of them with this value.
    pub(super) fn of(claims: &[Claim], value: i8) -> Self {
        let mut vector = Self::default();
        for claim in claims {
            vector.worsen(*claim, value);
        }
        vector
    }

    /// The value of a claim, if it is made.
    pub fn get(&self, claim: Claim) -> Option<i8> {
        self.0[claim as usize]
    }

    /// Makes the claim, or makes it worse; never better.
    pub(super) fn worsen(&mut self, claim: Claim, to: i8) {
        let made = &mut self.0[claim as usize];
        *made = (*made).max(Some(to));
    }

    /// Takes back what is said for the device: the same claims, and those that do not contraindicate say nothing.
    pub(super) fn withdraw(&mut self) {
        let made = self.0.iter_mut().flatten();
        for claim in made.filter(|claim| **claim < value::CONTRAINDICATED) {
            *claim = value::NONE;
        }
    }

    /// Whether a claim says something for the device, if only with a warning.
    pub(super) fn speaks_for(&self) -> bool {
        let mut claims = self.claims();
        claims.any(|(_, _, claim)| (value::AFFIRMING..value::CONTRAINDICATED).contains(&claim))
    }

    /// Every claim that is made, with AR4SI's number and name of it.
    pub fn claims(&self) -> impl Iterator<Item = (u8, &'static str, i8)> {
        let made = (0..).zip(Claim::ALL).zip(self.0);
        made.filter_map(|((key, (_, name)), value)| Some((key, name, value?)))
    }

    /// The tier of the worst claim.
    pub fn worst(&self) -> Tier {
        let tiers = self.claims().map(|(_, _, value)| match value {
            2..=31 => Tier::Affirming,
            32..=95 => Tier::Warning,
            96.. => Tier::Contraindicated,
            _ => Tier::None,
        });
        tiers.max().unwrap_or_default()
    }
}
