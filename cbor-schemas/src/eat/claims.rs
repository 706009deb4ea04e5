//! What a token claims.

use minicbor::data::Type;
use minicbor::{Decoder, Encode, Encoder};

use super::{EatError, Firmware, Measurements, Wanted};

/// Shortest nonce, in bytes (RFC 9711, 4.1).
pub const MIN_NONCE: usize = 8;

/// Longest nonce, in bytes (RFC 9711, 4.1).
pub const MAX_NONCE: usize = 64;

/// Claim keys (RFC 8392, 4; RFC 9711, 10.2).
mod key {
    pub(super) const EXP: i64 = 4;
    pub(super) const NBF: i64 = 5;
    pub(super) const IAT: i64 = 6;
    pub(super) const NONCE: i64 = 10;
    pub(super) const UEID: i64 = 256;
    pub(super) const OEM_BOOT: i64 = 262;
    pub(super) const DEBUG: i64 = 263;
    pub(super) const PROFILE: i64 = 265;
    pub(super) const SUBMODS: i64 = 266;
    pub(super) const BOOT_COUNT: i64 = 267;
    pub(super) const SOFTWARE_NAME: i64 = 270;
    pub(super) const SOFTWARE_VERSION: i64 = 271;
    pub(super) const MEASUREMENTS: i64 = 273;
}

/// `dbgstat` (RFC 9711, 4.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DebugState {
    /// Somebody may be debugging now.
    Enabled,
    /// Not now.
    Disabled,
    /// Not since the boot.
    DisabledSinceBoot,
    /// Not by anybody but the maker, ever.
    DisabledPermanently,
    /// Not by anybody, ever.
    DisabledFullyAndPermanently,
}

impl DebugState {
    const ALL: [Self; 5] = [
        Self::Enabled,
        Self::Disabled,
        Self::DisabledSinceBoot,
        Self::DisabledPermanently,
        Self::DisabledFullyAndPermanently,
    ];
}

/// The claims that Mote appraises. `M` is [`Firmware`] for who writes them, [`Measurements`] for who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims<'a, M> {
    /// Not a token any more from this time on, Unix seconds.
    pub expires: Option<u64>,
    /// Not a token yet before this time, Unix seconds.
    pub not_before: Option<u64>,
    /// When it was made, Unix seconds.
    pub issued_at: Option<u64>,
    /// What the verifier gave, [`MIN_NONCE`] to [`MAX_NONCE`] bytes.
    pub nonce: &'a [u8],
    /// Which device, for ever (RFC 9711, 4.2.1): 7 to 33 bytes, the first of them its kind.
    pub ueid: Option<&'a [u8]>,
    /// Whether only software that the maker authorised has booted.
    pub oem_boot: Option<bool>,
    /// Whether somebody can look into the device.
    pub debug: Option<DebugState>,
    /// `eat_profile`.
    pub profile: Option<&'a str>,
    /// Times that the device has booted.
    pub boot_count: Option<u64>,
    /// Name of its software.
    pub software_name: Option<&'a str>,
    /// Version of its software.
    pub software_version: Option<&'a str>,
    /// What was measured.
    pub measurements: Option<M>,
    /// Number of submodules: what they claim is not looked at.
    pub submodules: u64,
}

/// No claims, for whatever `M`; a derived one would ask for an `M: Default`.
impl<M> Default for Claims<'_, M> {
    fn default() -> Self {
        Self {
            expires: None,
            not_before: None,
            issued_at: None,
            nonce: &[],
            ueid: None,
            oem_boot: None,
            debug: None,
            profile: None,
            boot_count: None,
            software_name: None,
            software_version: None,
            measurements: None,
            submodules: 0,
        }
    }
}

impl<'a> Claims<'a, Measurements<'a>> {
    /// Reads a claims set, all of `bytes`.
    ///
    /// # Errors
    /// Where it is none, or a claim is not of its type, or stands there twice, or there is no nonce.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EatError> {
        let mut d = Decoder::new(bytes);
        let mut claims = Self::default();
        let mut nonce = None;
        let wrong = |offset, wanted| EatError { offset, wanted };
        let count = d.map().wanted("a claims set (a map)", 0)?;
        let count = count.ok_or(wrong(0, "a claims set of definite length"))?;
        for _ in 0..count {
            let at = d.position();
            if d.datatype().wanted("a claim's key", at)? == Type::String {
                d.skip().wanted("a claim's key", at)?;
                d.skip().wanted("a claim", d.position())?;
                continue;
            }
            let key = d.i64().wanted("a claim's key", at)?;
            let at = d.position();
            let new = match key {
                key::EXP => set(&mut claims.expires, d.u64().wanted("exp, a number", at)?),
                key::NBF => set(&mut claims.not_before, d.u64().wanted("nbf, a number", at)?),
                key::IAT => set(&mut claims.issued_at, d.u64().wanted("iat, a number", at)?),
                key::NONCE => set(&mut nonce, read_nonce(&mut d)?),
                key::UEID => set(&mut claims.ueid, d.bytes().wanted("ueid, bytes", at)?),
                key::OEM_BOOT => set(
                    &mut claims.oem_boot,
                    d.bool().wanted("oemboot, a bool", at)?,
                ),
                key::DEBUG => {
                    let state = DebugState::ALL.get(d.u8().wanted("dbgstat, 0 to 4", at)? as usize);
                    set(
                        &mut claims.debug,
                        *state.ok_or(wrong(at, "dbgstat, 0 to 4"))?,
                    )
                }
                key::PROFILE => {
                    // A URI; an OID is bytes, and none of ours.
                    let uri = (d.datatype().is_ok_and(|t| t == Type::String)).then(|| d.str());
                    match uri {
                        Some(uri) => set(&mut claims.profile, uri.wanted("eat_profile", at)?),
                        None => d.skip().is_ok(),
                    }
                }
                key::SUBMODS => {
                    let submodules = d.clone().map().wanted("submods, a map", at)?;
                    claims.submodules = submodules.unwrap_or(1);
                    d.skip().wanted("submods, a map", at)?;
                    true
                }
                key::BOOT_COUNT => set(
                    &mut claims.boot_count,
                    d.u64().wanted("bootcount, a number", at)?,
                ),
                key::SOFTWARE_NAME => set(
                    &mut claims.software_name,
                    d.str().wanted("swname, text", at)?,
                ),
                key::SOFTWARE_VERSION => set(&mut claims.software_version, read_version(&mut d)?),
                key::MEASUREMENTS => set(&mut claims.measurements, Measurements::read(&mut d)?),
                _ => {
                    d.skip().wanted("a claim", at)?;
                    true
                }
            };
            if !new {
                return Err(wrong(at, "a claim that stands there once"));
            }
        }
        if d.position() < bytes.len() {
            return Err(wrong(d.position(), "the end of the claims"));
        }
        claims.nonce = nonce.ok_or(wrong(0, "a claims set with a nonce"))?;
        Ok(claims)
    }
}

fn set<T>(claim: &mut Option<T>, value: T) -> bool {
    claim.replace(value).is_none()
}

/// One nonce: bytes, or the only item of an array.
fn read_nonce<'a>(d: &mut Decoder<'a>) -> Result<&'a [u8], EatError> {
    let at = d.position();
    let one = "one eat_nonce of 8 to 64 bytes";
    if d.datatype().is_ok_and(|t| t == Type::Array) && d.array().wanted(one, at)? != Some(1) {
        return Err(EatError {
            offset: at,
            wanted: one,
        });
    }
    let nonce = d.bytes().wanted(one, at)?;
    if (MIN_NONCE..=MAX_NONCE).contains(&nonce.len()) {
        Ok(nonce)
    } else {
        Err(EatError {
            offset: at,
            wanted: one,
        })
    }
}

/// `[version, ? scheme]` (RFC 9711, 4.2.7).
fn read_version<'a>(d: &mut Decoder<'a>) -> Result<&'a str, EatError> {
    let at = d.position();
    let wanted = "swversion, [version, ? scheme]";
    let items = d.array().wanted(wanted, at)?;
    let version = d.str().wanted(wanted, at)?;
    match items {
        Some(1) => {}
        Some(2) => d.skip().wanted(wanted, at)?,
        _ => return Err(EatError { offset: at, wanted }),
    }
    Ok(version)
}

impl<C> Encode<C> for Claims<'_, Firmware<'_>> {
    /// Deterministic (RFC 8949, 4.2.1). Submodules are not written.
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let optional = [
            self.expires.is_some(),
            self.not_before.is_some(),
            self.issued_at.is_some(),
            self.ueid.is_some(),
            self.oem_boot.is_some(),
            self.debug.is_some(),
            self.profile.is_some(),
            self.boot_count.is_some(),
            self.software_name.is_some(),
            self.software_version.is_some(),
            self.measurements.is_some(),
        ];
        e.map(1 + optional.iter().filter(|present| **present).count() as u64)?;
        for (key, value) in [
            (key::EXP, self.expires),
            (key::NBF, self.not_before),
            (key::IAT, self.issued_at),
        ] {
            if let Some(seconds) = value {
                e.i64(key)?.u64(seconds)?;
            }
        }
        e.i64(key::NONCE)?.bytes(self.nonce)?;
        if let Some(ueid) = self.ueid {
            e.i64(key::UEID)?.bytes(ueid)?;
        }
        if let Some(authorised) = self.oem_boot {
            e.i64(key::OEM_BOOT)?.bool(authorised)?;
        }
        if let Some(state) = self.debug {
            e.i64(key::DEBUG)?.u8(state as u8)?;
        }
        if let Some(profile) = self.profile {
            e.i64(key::PROFILE)?.str(profile)?;
        }
        if let Some(count) = self.boot_count {
            e.i64(key::BOOT_COUNT)?.u64(count)?;
        }
        if let Some(name) = self.software_name {
            e.i64(key::SOFTWARE_NAME)?.str(name)?;
        }
        if let Some(version) = self.software_version {
            e.i64(key::SOFTWARE_VERSION)?.array(1)?.str(version)?;
        }
        if let Some(firmware) = &self.measurements {
            e.i64(key::MEASUREMENTS)?;
            firmware.encode(e, ctx)?;
        }
        Ok(())
    }
}
