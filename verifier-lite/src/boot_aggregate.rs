//! IMA's first record, `boot_aggregate`: a hash over the boot PCRs, which ties the log to what booted
//! (`ima_calc_boot_aggregate` in Linux `security/integrity/ima/ima_crypto.c`).

use mote_schemas::tpm::{Digest, HashAlg, Hasher};

use crate::prefix::CertifiedPrefix;

/// Name of the record in the list.
pub(crate) const NAME: &[u8] = b"boot_aggregate";

/// Number of values that it may have when all boot PCRs are certified.
pub(crate) const FORMS: usize = 2;

/// What the record may hold, given the certified PCRs of the bank that it names: PCR 0 to 7, and, since
/// Linux 5.8 in every bank but SHA-1, PCR 8 and 9 too. Distributions have ported that back and forth, so
/// either is right in any bank: [`FORMS`] values. Nothing if PCR 0 to 7 of that bank are not certified, only
/// the first if PCR 8 or 9 is not.
pub(crate) fn expected(prefix: &CertifiedPrefix, bank: HashAlg) -> Vec<Digest> {
    let mut hasher = Hasher::new(bank);
    let mut expected = Vec::new();
    for pcr in 0..10 {
        if pcr == 8 {
            expected.push(hasher.clone().finish());
        }
        let Some(value) = prefix.state().value(bank, pcr) else {
            return expected;
        };
        hasher.update(value.as_bytes());
    }
    expected.push(hasher.finish());
    expected
}
