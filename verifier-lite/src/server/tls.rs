//! What TLS needs on our side (RFC 8323, 9.1): a certificate, and perhaps a demand for the peer's.
//!
//! TLS 1.3 only. It is an outer coat: who a device is, OSCORE inside says.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// ALPN of CoAP over TLS (RFC 8323, 8.2).
const ALPN: &[u8] = b"coap";

/// A configuration from PEM files: our certificate chain, its key, and the authorities that a device's
/// certificate must chain to, if it must have one.
pub fn config(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let builder = match client_ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(ca)? {
                roots
                    .add(root)
                    .map_err(|error| format!("{}: {error}", ca.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("{}: {error}", ca.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("{}: no private key (PEM): {error}", key.display()))?;
    let mut config = builder
        .with_single_cert(certificates(certificate)?, secret)
        .map_err(|error| format!("{}: {error}", certificate.display()))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nothing is kept of a connection that has ended; a device reconnects seldom.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate (PEM)", file.display()));
    }
    Ok(certificates)
}
