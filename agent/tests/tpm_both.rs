//! tpm2-tss or not: a device stays the same device.
#![allow(clippy::unwrap_used)]

mod common;

use common::Swtpm;
use mote_agent::tpm::{DirectTpm, EsapiTpm, KeyKind, Tpm as _, TpmOptions};

#[test]
fn both_ways_to_a_tpm_find_the_same_keys() {
    let swtpm = Swtpm::start();
    for kind in [KeyKind::Auto, KeyKind::Ecc, KeyKind::Rsa] {
        let options = TpmOptions {
            address: swtpm.address(),
            ek: kind,
            ak: kind,
        };
        let esapi = EsapiTpm::new(options.clone()).unwrap().identity().unwrap();
        let direct = DirectTpm::new(options).unwrap().identity().unwrap();
        assert_eq!(esapi, direct, "{kind:?}");
    }
}
