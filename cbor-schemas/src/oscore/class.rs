//! Where each option travels (RFC 8613, 4.1): encrypted and integrity protected (class E), or in
//! the clear for proxies to act on (class U). No option of class I is defined (4.1.2.2).

use coap_numbers::option;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Inner. Options that RFC 8613 does not know are of this class (4.1, figure 5).
    E,
    /// Outer.
    U,
    /// We do not send these under OSCORE.
    Refused,
}

pub(super) const fn of(number: u16) -> Class {
    match number {
        // Hop-Limit: RFC 8768, 3.
        option::URI_HOST | option::URI_PORT | option::PROXY_SCHEME | option::HOP_LIMIT => Class::U,
        option::OSCORE
        | option::OBSERVE
        | option::PROXY_URI
        | option::PROXY_CRI
        | option::PROXY_SCHEME_NUMBER
        | option::EDHOC => Class::Refused,
        _ => Class::E,
    }
}

/// Outer options of a received message that ask for something we cannot do: forward it, or first
/// reassemble what a proxy cut up (RFC 8613, 4.1.3.4.2). Other outer options are either harmless
/// or of class E, and then discarded (8.2, step 1).
pub(super) const fn is_unsupported_outer(number: u16) -> bool {
    matches!(
        number,
        option::BLOCK1 | option::BLOCK2 | option::Q_BLOCK1 | option::Q_BLOCK2 | option::EDHOC
    ) || is_proxy(number)
}

/// Options only a forward proxy may be sent (RFC 7252, 5.10.2).
pub(super) const fn is_proxy(number: u16) -> bool {
    matches!(
        number,
        option::PROXY_URI | option::PROXY_SCHEME | option::PROXY_CRI | option::PROXY_SCHEME_NUMBER
    )
}
