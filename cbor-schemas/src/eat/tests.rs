use super::*;
use crate::cbor;
use crate::tpm::HashAlg;

const DIGESTS: [[u8; 32]; 2] = [[0xb1; 32], [0xb2; 32]];

fn components() -> [Component<'static>; 2] {
    let component = |name, digest: &'static [u8; 32]| Component {
        name,
        hash_alg: HashAlg::Sha256,
        digest,
    };
    [
        component("bootloader", &DIGESTS[0]),
        component("app", &DIGESTS[1]),
    ]
}

fn claims<'a>(components: &'a [Component<'a>]) -> Claims<'a, Firmware<'a>> {
    Claims {
        issued_at: Some(1_800_000_000),
        nonce: &[0x99; 16],
        ueid: Some(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
        oem_boot: Some(true),
        debug: Some(DebugState::DisabledPermanently),
        boot_count: Some(300),
        software_name: Some("valve"),
        software_version: Some("2.1"),
        measurements: Some(Firmware {
            name: "valve",
            version: Some("2.1"),
            maker: "mcuboot",
            components,
        }),
        ..Claims::default()
    }
}

#[test]
fn what_is_written_reads_back_and_is_deterministic() {
    for count in 1..=2 {
        let components = components();
        let written = claims(&components[..count]);
        let mut buffer = [0; 512];
        let len = cbor::encode(&written, &mut buffer).unwrap();
        let bytes = &buffer[..len];
        assert_eq!(cbor::check(bytes), Ok(()));
        let read = Claims::parse(bytes).unwrap();
        assert_eq!(read.nonce, written.nonce);
        assert_eq!(read.ueid, written.ueid);
        assert_eq!(read.debug, written.debug);
        assert_eq!(read.boot_count, Some(300));
        assert_eq!(read.software_version, Some("2.1"));
        let mut seen = heapless::Vec::<_, 4>::new();
        let measurements = read.measurements.unwrap();
        measurements
            .each(&mut |one| seen.push(one).unwrap())
            .unwrap();
        let expected = components[..count].iter().map(|c| Measured::Component(*c));
        assert!(seen.into_iter().eq(expected));
        for cut in 0..len {
            assert!(Claims::parse(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}

#[test]
fn what_others_may_write_is_read_and_what_they_may_not_is_refused() {
    let nonce = [0x0a, 0x48, 1, 2, 3, 4, 5, 6, 7, 8];
    let with = |head: u8, more: &[u8]| {
        let mut bytes = heapless::Vec::<u8, 64>::new();
        bytes.push(head).unwrap();
        bytes.extend_from_slice(more).unwrap();
        bytes.extend_from_slice(&nonce).unwrap();
        bytes
    };
    // Keys in any order; text keys and unknown numbers; an OID as the profile; the nonce in an array.
    let sound: [(u8, &[u8]); 7] = [
        (0xa1, &[]),
        (0xa2, &[0x61, b'x', 0xf6]),
        (0xa2, &[0x19, 0x01, 0x02, 0x43, 1, 2, 3]),
        (0xa2, &[0x19, 0x01, 0x09, 0x42, 0x2a, 0x03]),
        (0xa2, &[0x19, 0x01, 0x07, 0x03]),
        (0xa2, &[0x19, 0x01, 0x0f, 0x82, 0x61, b'1', 0x01]),
        (0xa2, &[0x19, 0x01, 0x0a, 0xa1, 0x61, b's', 0xa0]),
    ];
    for (head, more) in sound {
        let bytes = with(head, more);
        let claims = Claims::parse(&bytes).unwrap();
        assert_eq!(claims.nonce, &nonce[2..]);
        assert_eq!(
            claims.submodules,
            u64::from(more.starts_with(&[0x19, 0x01, 0x0a]))
        );
    }
    let refused: [(u8, &[u8], &str); 7] = [
        (
            0xa2,
            &[0x0a, 0x48, 1, 2, 3, 4, 5, 6, 7, 8],
            "a claim that stands there once",
        ),
        (0xa2, &[0x19, 0x01, 0x07, 0x05], "dbgstat, 0 to 4"),
        (0xa2, &[0x06, 0xf9, 0, 0], "iat, a number"),
        (
            0xa2,
            &[0x19, 0x01, 0x0f, 0x61, b'1'],
            "swversion, [version, ? scheme]",
        ),
        (
            0xa2,
            &[0x19, 0x01, 0x11, 0x81, 0x81, 0x01],
            "measurements, [+ [content format, bytes]]",
        ),
        (
            0xa2,
            &[0x19, 0x01, 0x11, 0x81, 0x82, 0x19, 0x01, 0x02, 0x41, 0x01],
            "a CoSWID, a map",
        ),
        (0xbf, &[], "a claims set of definite length"),
    ];
    for (head, more, wanted) in refused {
        let error = Claims::parse(&with(head, more)).unwrap_err();
        assert_eq!(error.wanted, wanted);
    }
    let mut short = [0xa1, 0x0a, 0x47, 1, 2, 3, 4, 5, 6, 7];
    let wanted = |bytes: &[u8]| Claims::parse(bytes).unwrap_err().wanted;
    assert_eq!(wanted(&short), "one eat_nonce of 8 to 64 bytes");
    short[1] = 0x0b;
    assert_eq!(wanted(&short), "a claims set with a nonce");
    assert!(Claims::parse(&[&with(0xa1, &[])[..], &[0]].concat()).is_err());
}

#[test]
fn measurements_that_nothing_can_be_compared_with_are_told() {
    // [[61, h'a0'], [258, << {3: {18: 0, 17: {24: "x"}}} >>], [258, << {6: {}} >>]]
    let bytes = [
        0xa2, 0x0a, 0x48, 1, 2, 3, 4, 5, 6, 7, 8, 0x19, 0x01, 0x11, 0x83, 0x82, 0x18, 0x3d, 0x41,
        0xa0, 0x82, 0x19, 0x01, 0x02, 0x4a, 0xa1, 0x03, 0xa2, 0x12, 0x00, 0x11, 0xa1, 0x18, 0x18,
        0x60, 0x82, 0x19, 0x01, 0x02, 0x43, 0xa1, 0x06, 0xa0,
    ];
    let claims = Claims::parse(&bytes).unwrap();
    let mut others = 0;
    let measurements = claims.measurements.unwrap();
    measurements
        .each(&mut |one| others += u32::from(matches!(one, Measured::Other(_))))
        .unwrap();
    assert_eq!(others, 4);
}

#[test]
fn a_token_comes_apart_with_either_tag_or_none_and_only_with_es256() {
    let kid = DeviceId([0xde; 16]);
    let mut room = [0; 256];
    let mut cursor = minicbor::encode::write::Cursor::new(&mut room[..]);
    write(&kid, b"claims", &[7; 64], &mut cursor).unwrap();
    let len = cursor.position();
    let bytes = &room[..len];
    let token = Token::parse(bytes).unwrap();
    assert_eq!(token.kid, Some(&kid.0[..]));
    assert_eq!(token.payload, b"claims");
    assert_eq!(Token::parse(&bytes[1..]), Ok(token));
    let tagged = [&[0xd8, 0x3d], bytes].concat();
    assert_eq!(Token::parse(&tagged), Ok(token));
    let (mut mine, mut theirs) = ([0; 128], [0; 128]);
    let mut cursor = minicbor::encode::write::Cursor::new(&mut mine[..]);
    signed_bytes(&kid, b"claims", &mut cursor).unwrap();
    let mut cursor = minicbor::encode::write::Cursor::new(&mut theirs[..]);
    token.signed_bytes(&mut cursor).unwrap();
    assert_eq!(mine, theirs);
    for cut in 0..len {
        assert!(Token::parse(&bytes[..cut]).is_err(), "{cut}");
    }
    assert!(Token::parse(&[bytes, &[0]].concat()).is_err());
    let wanted = |at: usize, byte: u8| {
        let mut other = [0; 256];
        other[..len].copy_from_slice(bytes);
        other[at] = byte;
        Token::parse(&other[..len]).unwrap_err().wanted
    };
    // alg: -8; label 2 (crit) in place of 4.
    assert_eq!(wanted(5, 0x27), "ES256 as the algorithm, protected");
    assert_eq!(wanted(6, 0x02), "a header that we know, once");
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..96)) {
        let _ = Token::parse(&bytes);
        if let Ok(claims) = Claims::parse(&bytes)
            && let Some(measurements) = claims.measurements
        {
            proptest::prop_assert_eq!(measurements.each(&mut |_| {}), Ok(()));
        }
    }
}
