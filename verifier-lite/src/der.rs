//! Just enough DER (X.690, 10) to look into a certificate that `webpki` has already parsed: its key, and
//! one extension. Not a validator: what is not understood is simply not found.

/// Takes one element off `rest`: its tag and its contents.
pub(crate) fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, after) = rest.split_first()?;
    let (&first, mut after) = after.split_first()?;
    let len = if first < 0x80 {
        usize::from(first)
    } else {
        // Long form; nothing here is longer than 64 KiB.
        let count = usize::from(first & 0x7f);
        if !(1..=2).contains(&count) {
            return None;
        }
        let (digits, then) = after.split_at_checked(count)?;
        after = then;
        digits
            .iter()
            .fold(0, |len, digit| len << 8 | usize::from(*digit))
    };
    let (contents, after) = after.split_at_checked(len)?;
    *rest = after;
    Some((tag, contents))
}

/// Takes one element of this tag off `rest`; its contents.
pub(crate) fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(rest)
        .filter(|(found, _)| *found == tag)
        .map(|(_, contents)| contents)
}

/// SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(crate) const OID: u8 = 0x06;

/// The front of `bytes` that is one whole element, without what follows it: NV indices are often larger
/// than the certificate in them.
pub(crate) fn first_element(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    element(&mut rest)?;
    Some(&bytes[..bytes.len() - rest.len()])
}

/// Contents (inside the OCTET STRING) of the certificate extension with this OID (RFC 5280, 4.1).
pub(crate) fn extension<'a>(certificate: &'a [u8], oid: &[u8]) -> Option<&'a [u8]> {
    const EXTENSIONS: u8 = 0xa3;
    let mut rest = certificate;
    let mut signed = expect(&mut rest, SEQUENCE)?;
    let mut fields = expect(&mut signed, SEQUENCE)?;
    let mut tagged = loop {
        let (tag, contents) = element(&mut fields)?;
        if tag == EXTENSIONS {
            break contents;
        }
    };
    let mut extensions = expect(&mut tagged, SEQUENCE)?;
    loop {
        let mut extension = expect(&mut extensions, SEQUENCE)?;
        if expect(&mut extension, OID)? == oid {
            // `critical` is left out when false.
            return match element(&mut extension)? {
                (OCTET_STRING, value) => Some(value),
                _ => expect(&mut extension, OCTET_STRING),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_one_by_one_and_truncated_ones_are_not_found() {
        let bytes = [0x30, 3, 2, 1, 5, 0xff, 0xff];
        assert_eq!(first_element(&bytes), Some(&bytes[..5]));
        let mut rest = &bytes[..];
        let mut sequence = expect(&mut rest, SEQUENCE).unwrap();
        assert_eq!(expect(&mut sequence, INTEGER), Some(&[5][..]));
        assert_eq!(element(&mut sequence), None);
        for len in 0..5 {
            assert_eq!(first_element(&bytes[..len]), None, "{len} bytes");
        }
        let mut long = vec![0x04, 0x82, 0x01, 0x00];
        long.extend([7; 256]);
        assert_eq!(first_element(&long), Some(&long[..]));
        assert_eq!(first_element(&[0x04, 0x80, 0, 0]), None, "indefinite");
        assert_eq!(first_element(&[0x04, 0x84, 0, 0, 0, 0]), None, "too long");
    }
}
