//! Where the verifier is: a host, a port, and how to speak to it.

use core::fmt;
use core::str::FromStr;

/// How to speak to the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `coap://`: datagrams (RFC 7252, 6.1).
    Coap,
    /// `coaps+tcp://`: TLS (RFC 8323, 8.2).
    CoapsTcp,
}

impl Scheme {
    /// Port that is meant when none is named (RFC 7252, 12.6; RFC 8323, 11.7).
    const fn default_port(self) -> u16 {
        match self {
            Scheme::Coap => 5683,
            Scheme::CoapsTcp => 5684,
        }
    }
}

/// The verifier's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How to speak to it.
    pub scheme: Scheme,
    /// `host:port`, an IPv6 address in brackets.
    pub authority: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Coap => f.write_str(&self.authority),
            Scheme::CoapsTcp => write!(f, "coaps+tcp://{}", self.authority),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("coap", rest)) => (Scheme::Coap, rest),
            Some(("coaps+tcp", rest)) => (Scheme::CoapsTcp, rest),
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is not spoken here; use coap://HOST:PORT or coaps+tcp://HOST:PORT"
                ));
            }
            None => (Scheme::Coap, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        Ok(Endpoint {
            scheme,
            authority: host_and_port(rest, scheme.default_port())?,
        })
    }
}

/// `host:port` with the default port filled in.
fn host_and_port(text: &str, default: u16) -> Result<String, String> {
    const WANTED: &str = "HOST:PORT, such as verifier.example.com:5683 or [2001:db8::1]:5683";
    if text.is_empty() {
        return Err(format!("not set; name the verifier as {WANTED}"));
    }
    let wrong = || format!("{WANTED}, not {text:?}");
    let (host, port) = match text.rsplit_once(':') {
        // A bare IPv6 address has colons of its own.
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, port),
        _ if text.ends_with(']') || !text.contains(':') => {
            let host = checked_host(text).ok_or_else(wrong)?;
            return Ok(format!("{host}:{default}"));
        }
        _ => {
            let host = text.parse::<core::net::Ipv6Addr>().map_err(|_| wrong())?;
            return Ok(format!("[{host}]:{default}"));
        }
    };
    let host = checked_host(host).ok_or_else(wrong)?;
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok(format!("{host}:{port}")),
        _ => Err(wrong()),
    }
}

fn checked_host(host: &str) -> Option<&str> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let valid = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(address) => {
            // A link-local address names its interface: fe80::1%eth0.
            let address = address?;
            let (address, zone) = address.split_once('%').unwrap_or((address, "0"));
            address.parse::<core::net::Ipv6Addr>().is_ok() && !zone.is_empty()
        }
        None => !host.is_empty() && host.chars().all(named),
    };
    valid.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_a_host_and_perhaps_a_scheme_and_a_port() {
        for (text, shown) in [
            ("verifier", "verifier:5683"),
            ("verifier.example.com:77", "verifier.example.com:77"),
            ("coap://verifier:5683", "verifier:5683"),
            ("coap://verifier/", "verifier:5683"),
            ("coaps+tcp://verifier", "coaps+tcp://verifier:5684"),
            (
                "coaps+tcp://[2001:db8::1]:77/",
                "coaps+tcp://[2001:db8::1]:77",
            ),
            ("192.0.2.1", "192.0.2.1:5683"),
            ("[2001:db8::1]", "[2001:db8::1]:5683"),
            ("[2001:db8::1]:77", "[2001:db8::1]:77"),
            ("2001:db8::1", "[2001:db8::1]:5683"),
            ("[fe80::1%eth0]:77", "[fe80::1%eth0]:77"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(endpoint), "{text}");
        }
        for text in [
            "",
            "coaps+tcp://",
            ":5683",
            "verifier:",
            "verifier:0",
            "verifier:65536",
            "verifier:x",
            "a b",
            "[::1",
            "::1]",
            "[verifier]:1",
            "coaps://verifier",
            "coap+tcp://verifier",
            "https://verifier",
            "user@host",
            "a:b:c",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
