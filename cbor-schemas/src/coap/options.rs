//! What the options that Mote understands may look like (RFC 7252, 5.10; RFC 7959; RFC 8613;
//! RFC 9175). An occurrence outside its specification is treated as unrecognised.

use coap_numbers::option;

use super::message::OptionValue;

/// Format of one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    number: u16,
    min_length: u16,
    max_length: u16,
    repeatable: bool,
}

impl OptionSpec {
    /// Uri-Host: outer only, under OSCORE.
    pub const URI_HOST: OptionSpec = once(option::URI_HOST, 1, 255);
    /// Uri-Port: outer only, under OSCORE.
    pub const URI_PORT: OptionSpec = once(option::URI_PORT, 0, 2);
    /// OSCORE (RFC 8613, 2).
    pub const OSCORE: OptionSpec = once(option::OSCORE, 0, 255);
    /// Uri-Path.
    pub const URI_PATH: OptionSpec = OptionSpec {
        repeatable: true,
        ..once(option::URI_PATH, 0, 255)
    };
    /// Uri-Query.
    pub const URI_QUERY: OptionSpec = OptionSpec {
        repeatable: true,
        ..once(option::URI_QUERY, 0, 255)
    };
    /// Content-Format.
    pub const CONTENT_FORMAT: OptionSpec = once(option::CONTENT_FORMAT, 0, 2);
    /// Max-Age.
    pub const MAX_AGE: OptionSpec = once(option::MAX_AGE, 0, 4);
    /// Accept.
    pub const ACCEPT: OptionSpec = once(option::ACCEPT, 0, 2);
    /// Block2 (RFC 7959, 2.1).
    pub const BLOCK2: OptionSpec = once(option::BLOCK2, 0, 3);
    /// Block1 (RFC 7959, 2.1).
    pub const BLOCK1: OptionSpec = once(option::BLOCK1, 0, 3);
    /// Size2 (RFC 7959, 4).
    pub const SIZE2: OptionSpec = once(option::SIZE2, 0, 4);
    /// Size1 (RFC 7252, 5.10.9).
    pub const SIZE1: OptionSpec = once(option::SIZE1, 0, 4);
    /// Echo (RFC 9175, 2.2.1).
    pub const ECHO: OptionSpec = once(option::ECHO, 1, 40);
    /// Request-Tag (RFC 9175, 3.2.1).
    pub const REQUEST_TAG: OptionSpec = OptionSpec {
        repeatable: true,
        ..once(option::REQUEST_TAG, 0, 8)
    };

    pub(super) fn admits(self, option: &OptionValue<'_>, repeated: bool) -> bool {
        self.number == option.number
            && (usize::from(self.min_length)..=usize::from(self.max_length))
                .contains(&option.value.len())
            && (self.repeatable || !repeated)
    }
}

const fn once(number: u16, min_length: u16, max_length: u16) -> OptionSpec {
    OptionSpec {
        number,
        min_length,
        max_length,
        repeatable: false,
    }
}
