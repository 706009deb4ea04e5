//! TLS 1.3 around CoAP (RFC 8323, 8): rustls over a non-blocking socket.
//!
//! An outer coat: OSCORE inside keeps its own promises whatever happens here. What TLS adds is that a
//! network sees less, and that only the right server is spoken to at all. The server is known by a
//! chain to a configured authority, or by the SHA-256 of its certificate or public key, which needs no
//! clock: a device without one cannot judge validity dates.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant as Clock;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::watch::{Unfinished, Watch};
use crate::config::{Pin, TlsSettings};

/// ALPN of CoAP over TLS (RFC 8323, 8.2).
const ALPN: &[u8] = b"coap";

/// Whom to believe, and who we are.
#[derive(Clone, Debug)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// Reads the files that the settings name.
    pub fn new(settings: &TlsSettings) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = builder(provider)?;
        let builder = match (&settings.pin, &settings.ca) {
            (Some(pin), _) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned {
                    pin: *pin,
                    algorithms,
                })),
            (None, Some(ca)) => {
                let mut roots = RootCertStore::empty();
                let file = ca.display();
                let certificates = CertificateDer::pem_file_iter(ca)
                    .map_err(|error| format!("{file}: {error}"))?;
                for certificate in certificates {
                    certificate
                        .map_err(|error| error.to_string())
                        .and_then(|root| roots.add(root).map_err(|error| error.to_string()))
                        .map_err(|error| format!("{file}: {error}"))?;
                }
                if roots.is_empty() {
                    return Err(format!("{file} holds no certificate (PEM)"));
                }
                builder.with_root_certificates(roots)
            }
            (None, None) => return Err("neither tls_pin nor tls_ca is set".to_owned()),
        };
        let mut config = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => {
                let chain = CertificateDer::pem_file_iter(certificate)
                    .and_then(Iterator::collect)
                    .map_err(|error| format!("{}: {error}", certificate.display()))?;
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("{}: {error}", key.display()))?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| format!("{}: {error}", key.display()))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsClient(Arc::new(config)))
    }
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())
}

/// Believes one certificate, or one key in whatever certificate or in none (RFC 7250).
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let hash = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
        let pinned = match self.pin {
            Pin::RawKey(digest) => hash(end_entity) == digest,
            Pin::Certificate(digest) => {
                let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
                hash(end_entity) == digest || hash(&key) == digest
            }
        };
        if pinned {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // TLS 1.2 is not offered.
        Err(Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.requires_raw_public_keys() {
            let key = SubjectPublicKeyInfoDer::from(&certificate[..]);
            return verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms);
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn requires_raw_public_keys(&self) -> bool {
        matches!(self.pin, Pin::RawKey(_))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A connection whose handshake is done.
pub(super) struct Tls {
    socket: TcpStream,
    session: ClientConnection,
}

impl Tls {
    /// Connects to the first address of `server` (`host:port`) that answers.
    pub(super) fn connect(
        server: &str,
        client: &TlsClient,
        watch: &Watch,
        until: Clock,
    ) -> Result<Self, Unfinished> {
        let (host, _) = server
            .rsplit_once(':')
            .ok_or_else(|| io::Error::other("no port"))?;
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let name = name.split('%').next().unwrap_or(name).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in server.to_socket_addrs()? {
            match dial(address, watch, until) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    let session = ClientConnection::new(Arc::clone(&client.0), name)
                        .map_err(io::Error::other)?;
                    let mut tls = Tls { socket, session };
                    while tls.session.is_handshaking() {
                        tls.flush(watch, until)?;
                        tls.take(watch, until)?;
                    }
                    tls.flush(watch, until)?;
                    return Ok(tls);
                }
                Err(Unfinished::Broken(error)) => last = error,
                Err(other) => return Err(other),
            }
        }
        Err(last.into())
    }

    /// At least one byte, into `out`.
    pub(super) fn read(
        &mut self,
        out: &mut [u8],
        watch: &Watch,
        until: Clock,
    ) -> Result<usize, Unfinished> {
        loop {
            match self.session.reader().read(out) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return Ok(other?),
            }
            self.flush(watch, until)?;
            self.take(watch, until)?;
        }
    }

    /// All of it. After [`Unfinished::Deadline`], what is left goes out with the next call.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        watch: &Watch,
        until: Clock,
    ) -> Result<(), Unfinished> {
        self.session.writer().write_all(bytes)?;
        self.flush(watch, until)
    }

    fn flush(&mut self, watch: &Watch, until: Clock) -> Result<(), Unfinished> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    watch.writable(&self.socket, until)?;
                }
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    /// What the peer has sent since.
    fn take(&mut self, watch: &Watch, until: Clock) -> Result<(), Unfinished> {
        loop {
            // First, so that no peer, however much it sends, keeps a signal from being seen.
            watch.readable(&self.socket, until)?;
            match self.session.read_tls(&mut self.socket) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why.
            let _ = self.flush(watch, until);
            return Err(io::Error::new(ErrorKind::InvalidData, error).into());
        }
        Ok(())
    }
}

/// A connection to one address. Not by std, whose connect(2) would not see the signal that asks to stop.
fn dial(address: SocketAddr, watch: &Watch, until: Clock) -> Result<TcpStream, Unfinished> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None).map_err(io::Error::from)?;
    let socket = TcpStream::from(socket);
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(io::Error::from(error).into()),
    }
    watch.writable(&socket, until)?;
    match socket.take_error()? {
        Some(error) => Err(error.into()),
        None => Ok(socket),
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
