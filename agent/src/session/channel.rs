//! One OSCORE session with the verifier (RFC 8613): keys in RAM, wiped when dropped.
