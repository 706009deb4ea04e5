//! A quote that was elided comes back byte for byte, for whatever device and history.

use mote_schemas::tpm::{
    Attest, BankSelection, Baseline, ClockInfo, HashAlg, LowClock, MAX_DIGEST, Name, PcrSelection,
    elide, hash,
};
use proptest::prelude::*;

const ALGS: [HashAlg; 4] = [
    HashAlg::Sha1,
    HashAlg::Sha256,
    HashAlg::Sha384,
    HashAlg::Sha512,
];

fn selections() -> impl Strategy<Value = PcrSelection> {
    proptest::sample::subsequence(&ALGS[..], 1..=4).prop_flat_map(|algs| {
        let masks = proptest::collection::vec(1u32..1 << 24, algs.len());
        masks.prop_map(move |masks| {
            let mut selection = PcrSelection::single(algs[0], masks[0]).unwrap();
            for (alg, mask) in algs.iter().zip(&masks).skip(1) {
                selection
                    .push(BankSelection::new(*alg, *mask).unwrap())
                    .unwrap();
            }
            selection
        })
    })
}

fn gaps() -> impl Strategy<Value = u64> {
    (0u32..48).prop_flat_map(|bits| 0..1u64 << bits)
}

proptest! {
    #[test]
    fn what_was_elided_is_rebuilt(
        selection in selections(),
        alg in proptest::sample::select(&ALGS[..]),
        (clock, lost, gap) in (0u64..1 << 50, gaps(), gaps()),
        (resets, restarts, restarts_now) in (any::<u32>(), any::<u32>(), any::<u32>()),
        (safe, safe_now, firmware) in (any::<bool>(), any::<bool>(), any::<u64>()),
        (extra_data, digest) in (any::<[u8; 32]>(), any::<[u8; MAX_DIGEST]>()),
    ) {
        let signer = Name::from_digest(&hash(alg, &[b"key"]));
        let clock_info = ClockInfo { clock, reset_count: resets, restart_count: restarts, safe };
        let baseline = Baseline { signer, clock_info, firmware_version: firmware, selection };
        let attest = Attest {
            qualified_signer: signer.as_bytes(),
            extra_data: &extra_data,
            clock_info: ClockInfo {
                clock: clock + lost + gap,
                reset_count: resets,
                restart_count: restarts_now,
                safe: safe_now,
            },
            firmware_version: firmware,
            pcr_select: selection,
            pcr_digest: &digest[..alg.digest_len()],
        };
        let (mut wanted, mut got) = ([0; 384], [0; 384]);
        let wanted = attest.encode(&mut wanted).unwrap();
        let elided = elide(&attest, &baseline, &extra_data).unwrap();
        let rebuilt = elided.rebuild(&baseline, &extra_data, attest.pcr_digest).unwrap();
        prop_assert_eq!(rebuilt.encode(&mut got).unwrap(), wanted);

        // The verifier may have accepted a quote since, the reply to which was lost.
        let mut later = baseline;
        later.clock_info.clock += lost;
        let rebuilt = elided.rebuild(&later, &extra_data, attest.pcr_digest).unwrap();
        prop_assert_eq!(rebuilt.clock_info.clock, attest.clock_info.clock);

        // What does not follow travels in full.
        let mut other = baseline;
        other.firmware_version ^= 1;
        prop_assert_eq!(elide(&attest, &other, &extra_data), None);
        other = baseline;
        other.clock_info.reset_count ^= 1;
        prop_assert_eq!(elide(&attest, &other, &extra_data), None);
        other = baseline;
        other.clock_info.clock = attest.clock_info.clock + 1;
        prop_assert_eq!(elide(&attest, &other, &extra_data), None);
        prop_assert_eq!(elide(&attest, &baseline, &extra_data[1..]), None);
    }
}

#[test]
fn a_clock_takes_the_bytes_that_its_gap_needs() {
    for (gap, bytes) in [
        (0, 1),
        (255, 1),
        (256, 2),
        (65_535, 2),
        (300_000, 3),
        (3_600_000, 3),
        (86_400_000, 4),
        (u64::from(u32::MAX), 4),
        (1 << 40, 6),
    ] {
        let low = LowClock::of(0x1234_5678_9abc + gap, 0x1234_5678_9abc).unwrap();
        assert_eq!(low.as_bytes().len(), bytes, "{gap}");
        assert_eq!(low.resolve(0x1234_5678_9abc), Some(0x1234_5678_9abc + gap));
    }
    let end = LowClock::new(&[0]).unwrap();
    assert_eq!(end.resolve(u64::MAX), None);
    assert_eq!(LowClock::new(&[]), None);
    assert_eq!(LowClock::new(&[0; 9]), None);
}
