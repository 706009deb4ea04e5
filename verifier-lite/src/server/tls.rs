//! What TLS needs on our side (RFC 8323, 9.1): a certificate, and perhaps a demand for the peer's.
//!
//! TLS 1.3 only. It is an outer coat: who a device is, OSCORE inside says.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

/// ALPN of CoAP over TLS (RFC 8323, 8.2).
const ALPN: &[u8] = b"coap";

/// A configuration from PEM files: our certificate chain, its key, and the authorities that a device's
/// certificate must chain to, if it must have one. Without a certificate we show the key alone
/// (RFC 7250), to devices that ask for that and to no others.
pub fn config(
    certificate: Option<&Path>,
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
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| format!("{}: {error}", ca.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("{}: no private key (PEM): {error}", key.display()))?;
    let mut config = match certificate {
        Some(file) => builder
            .with_single_cert(certificates(file)?, secret)
            .map_err(|error| format!("{}: {error}", file.display()))?,
        None => builder.with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
            raw_key(&provider, secret).map_err(|error| format!("{}: {error}", key.display()))?,
        ))),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nothing is kept of a connection that has ended; a device reconnects seldom.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn raw_key(
    provider: &CryptoProvider,
    secret: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, String> {
    let key = provider
        .key_provider
        .load_private_key(secret)
        .map_err(|error| error.to_string())?;
    let public = key.public_key().ok_or("its public key cannot be told")?;
    let public = CertificateDer::from(public.as_ref().to_vec());
    Ok(Arc::new(CertifiedKey::new(vec![public], key)))
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
