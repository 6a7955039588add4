//! TLS: the certificate that a listener shows, and the handshake. What follows is the shards' affair ([`crate::transport::io`]). And how nodes know each other, when
//! they ask each other over TLS.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, ready for handshakes (TLS 1.2 and 1.3, HTTP/1.1). Clones share it, and what it is replaced by.
#[derive(Clone)]
pub struct Tls(Arc<Files>);

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    shown: RwLock<Shown>,
}

struct Shown {
    config: Arc<ServerConfig>,
    /// Of the files' bytes, from which it was made.
    digest: [u8; 32],
}

/// What the files hold.
struct Bytes {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// Which other nodes are believed to be such, when they speak TLS.
#[derive(Clone)]
pub struct PeerTrust {
    config: Arc<ClientConfig>,
    /// What their certificates are for; `None`: the host by which each of them is reached.
    name: Option<ServerName<'static>>,
}

/// Why there can be no TLS with these files.
#[derive(Debug)]
pub struct Unusable {
    file: PathBuf,
    why: String,
}

impl Tls {
    /// Reads PEM files: the certificate with those that lead from it to its issuer, and the key (PKCS #8, PKCS #1 or SEC 1). They must belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Unusable> {
        let shown = RwLock::new(Bytes::read(certificate, key)?.shown(certificate, key)?);
        Ok(Self(Arc::new(Files { certificate: certificate.to_owned(), key: key.to_owned(), shown })))
    }

    /// Reads the files again; whether something else is shown from now on. What cannot be used changes nothing.
    pub fn reload(&self) -> Result<bool, Unusable> {
        let Files { certificate, key, shown } = &*self.0;
        let read = Bytes::read(certificate, key)?;
        if read.digest() == shown.read().unwrap_or_else(PoisonError::into_inner).digest {
            return Ok(false);
        }
        let new = read.shown(certificate, key)?;
        *shown.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }

    /// Reloads the files whenever they have changed, and looks after them this often; connections that are there stay as they are. Never ends.
    pub async fn follow_files(self, every: Duration) {
        let mut refused: Option<(String, bool)> = None;
        loop {
            tokio::time::sleep(every).await;
            let tls = self.clone();
            let Ok(outcome) = tokio::task::spawn_blocking(move || tls.reload()).await else { continue };
            refused = match outcome {
                Ok(true) => {
                    tracing::info!(certificate = %self.0.certificate.display(), "a new certificate is shown from now on");
                    None
                }
                Ok(false) => None,
                Err(unusable) => {
                    let why = unusable.to_string();
                    // The one file may have been written, and the other not yet: it is said when it stays so.
                    let said = match refused {
                        Some((before, said)) if before == why => {
                            if !said {
                                tracing::warn!("the new certificate is refused, the old one is kept: {why}");
                            }
                            true
                        }
                        _ => false,
                    };
                    Some((why, said))
                }
            };
        }
    }

    /// The handshake; the caller bounds its time.
    pub(super) fn accept(&self, stream: TcpStream) -> tokio_rustls::Accept<TcpStream> {
        let config = self.0.shown.read().unwrap_or_else(PoisonError::into_inner).config.clone();
        TlsAcceptor::from(config).accept(stream)
    }
}

impl Bytes {
    fn read(certificate: &Path, key: &Path) -> Result<Self, Unusable> {
        let bytes = |file: &Path| fs::read(file).map_err(|error| unusable(file, error.to_string()));
        Ok(Self { chain: bytes(certificate)?, key: bytes(key)? })
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(Sha256::digest(&self.chain))
            .chain_update(Sha256::digest(&self.key))
            .finalize()
            .into()
    }

    fn shown(&self, certificate: &Path, key: &Path) -> Result<Shown, Unusable> {
        let chain = certificates(certificate, &self.chain)?;
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| unusable(key, explain(error, "no private key that is not encrypted")))?;
        let config = server_config(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                unusable(key, format!("not the key of {}", certificate.display()))
            }
            error => unusable(certificate, error.to_string()),
        })?;
        Ok(Shown { config: Arc::new(config), digest: self.digest() })
    }
}

impl PeerTrust {
    /// Believes certificates that `authorities` have signed (a PEM file; `None`: those that the machine trusts) for `name` (`None`: for the host by which a node is
    /// reached).
    pub fn load(authorities: Option<&Path>, name: Option<&str>) -> Result<Self, Unusable> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(file) => {
                let bytes = fs::read(file).map_err(|error| unusable(file, error.to_string()))?;
                for certificate in certificates(file, &bytes)? {
                    roots.add(certificate).map_err(|error| unusable(file, error.to_string()))?;
                }
            }
            // One that cannot be read has signed nothing that we know of.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        let name = name.map(|name| ServerName::try_from(name.to_owned())).transpose();
        let name = name.map_err(|error| unusable(Path::new("the peers' name"), error.to_string()))?;
        Ok(Self { config: Arc::new(client_config(roots)), name })
    }

    /// Believes nobody: for a node without others, or whose others speak plain HTTP.
    pub fn nobody() -> Self {
        Self { config: Arc::new(client_config(RootCertStore::empty())), name: None }
    }

    /// Connects by `http` and `https`.
    pub(super) fn connector(&self, http: HttpConnector) -> HttpsConnector<HttpConnector> {
        let builder = HttpsConnectorBuilder::new().with_tls_config((*self.config).clone()).https_or_http();
        match &self.name {
            Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
            None => builder,
        }
        .enable_http1()
        .wrap_connector(http)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls") // a key is nobody's business
    }
}

impl fmt::Debug for PeerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTrust").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use {}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for Unusable {}

fn unusable(file: &Path, why: String) -> Unusable {
    Unusable { file: file.to_owned(), why }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|error| unusable(file, explain(error, "no certificate")))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Clients that come back all at once, when a network returns, spare us a signature each.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn client_config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the versions that are safe")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn explain(error: pem::Error, missing: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("it has {missing} in PEM form"),
        error => error.to_string(),
    }
}
