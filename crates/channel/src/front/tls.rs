//! TLS: the certificate that a listener shows, and the handshake. What follows is the shards' affair ([`crate::transport::io`]).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, ready for handshakes (TLS 1.2 and 1.3, HTTP/1.1). Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why there can be no TLS with these files.
#[derive(Debug)]
pub struct Unusable {
    file: PathBuf,
    why: String,
}

impl Tls {
    /// Reads PEM files: the certificate with those that lead from it to its issuer, and the key (PKCS #8, PKCS #1 or SEC 1). They must belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Unusable> {
        let unusable = |file: &Path, why: String| Unusable { file: file.to_owned(), why };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
            .map_err(|error| unusable(certificate, explain(error, "no certificate")))?;
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| unusable(key, explain(error, "no private key that is not encrypted")))?;
        Self::new(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                unusable(key, format!("not the key of {}", certificate.display()))
            }
            error => unusable(certificate, error.to_string()),
        })
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Clients that come back all at once, when a network returns, spare us a signature each.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Self(Arc::new(config)))
    }

    /// The handshake; the caller bounds its time.
    pub(super) fn accept(&self, stream: TcpStream) -> tokio_rustls::Accept<TcpStream> {
        TlsAcceptor::from(self.0.clone()).accept(stream)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls") // a key is nobody's business
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use {}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for Unusable {}

fn explain(error: pem::Error, missing: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("it has {missing} in PEM form"),
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}
