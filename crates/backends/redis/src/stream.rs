//! The bus's own way to a server: a stream, TLS if wanted, and who is there.

use std::sync::Arc;

use bytes::BytesMut;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::options::{Address, Options};
use crate::resp::{self, Frame};
use crate::server::{ConnectError, Greeting};

/// Bytes read at once.
const READ: usize = 64 << 10;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection on which one question is asked at a time, or what it was is taken apart.
pub(crate) struct Socket {
    pub(crate) stream: Box<dyn Duplex>,
    /// Read, and not used yet.
    pub(crate) buffer: BytesMut,
    pub(crate) address: Address,
    pub(crate) greeting: Greeting,
}

impl Socket {
    /// Connects, by TLS if the options say so, and signs in.
    pub(crate) async fn open(options: &Options, address: &Address) -> Result<Self, ConnectError> {
        let opening = async {
            let stream = TcpStream::connect((&*address.host, address.port));
            let stream = stream.await.map_err(|error| at(address, &error.to_string()))?;
            // Batches are written whole: waiting for more gains nothing.
            let _ = stream.set_nodelay(true);
            let stream: Box<dyn Duplex> = match options.tls {
                Some(_) => Box::new(secure(options, address, stream).await?),
                None => Box::new(stream),
            };
            let mut socket = Self {
                stream,
                buffer: BytesMut::new(),
                address: address.clone(),
                greeting: Greeting::default(),
            };
            socket.sign_in(options).await?;
            Ok(socket)
        };
        timeout(options.connect_timeout, opening)
            .await
            .unwrap_or_else(|_| Err(at(address, "no answer in time")))
    }

    async fn sign_in(&mut self, options: &Options) -> Result<(), ConnectError> {
        let mut words: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &options.password {
            let username = options.username.as_deref().unwrap_or("default");
            words.extend([&b"AUTH"[..], username.as_bytes(), password.reveal().as_bytes()]);
        }
        words.extend([&b"SETNAME"[..], b"xpush-bus"]);
        match self.ask(&words).await? {
            Frame::Array(frames) => self.greeting = greeting(&frames),
            Frame::Error(text) => return Err(refused(&self.address, &text)),
            _ => return Err(at(&self.address, "does not speak the protocol of Redis")),
        }
        self.greeting.check(&self.address)
    }

    /// Sends one command and waits for its answer.
    pub(crate) async fn ask(&mut self, words: &[&[u8]]) -> Result<Frame, ConnectError> {
        let mut out = BytesMut::new();
        resp::command(&mut out, words);
        let failed = |error: std::io::Error| at(&self.address, &error.to_string());
        self.stream.write_all(&out).await.map_err(failed)?;
        self.stream.flush().await.map_err(failed)?;
        loop {
            match resp::take(&mut self.buffer) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(resp::Garbled) => {
                    return Err(at(&self.address, "does not speak the protocol of Redis"));
                }
            }
            self.buffer.reserve(READ);
            if self.stream.read_buf(&mut self.buffer).await.map_err(failed)? == 0 {
                return Err(at(&self.address, "closes the connection"));
            }
        }
    }
}

/// What an error's code means for whoever runs this.
pub(crate) fn refused(address: &Address, text: &[u8]) -> ConnectError {
    let text = String::from_utf8_lossy(text);
    let code = text.split(' ').next().unwrap_or_default();
    match code {
        "NOAUTH" => at(address, "wants a password, and none is given"),
        "WRONGPASS" => at(address, &format!("refuses this user and password: {text}")),
        "NOPERM" => at(address, &format!("does not permit this user what is needed: {text}")),
        "ERR" if text.contains("unknown command") => at(address, "is older than Redis 6.2"),
        "ERR" if text.contains("without any password configured") => {
            at(address, "has no password, and one is given")
        }
        _ => at(address, &text),
    }
}

fn greeting(frames: &[Frame]) -> Greeting {
    let mut greeting = Greeting::default();
    for pair in frames.chunks_exact(2) {
        let value = pair[1].text().unwrap_or_default().to_owned();
        match pair[0].text() {
            Some("version") => greeting.version = value,
            Some("mode") => greeting.mode = value,
            Some("role") => greeting.role = value,
            _ => {}
        }
    }
    greeting
}

fn at(address: &Address, text: &str) -> ConnectError {
    ConnectError::new(format!("{address}: {text}"))
}

async fn secure(
    options: &Options,
    address: &Address,
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, ConnectError> {
    let name = ServerName::try_from(address.host.to_string())
        .map_err(|_| at(address, "is no name that a certificate could be for"))?;
    let connector = TlsConnector::from(Arc::new(tls(options)?));
    connector.connect(name, stream).await.map_err(|error| at(address, &error.to_string()))
}

fn tls(options: &Options) -> Result<ClientConfig, ConnectError> {
    let mut roots = RootCertStore::empty();
    match options.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        Some(path) => {
            let wrong =
                |error: &dyn std::fmt::Display| ConnectError::new(format!("{}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"holds no certificate"));
            }
        }
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // One that cannot be used is one that is not trusted.
                let _ = roots.add(certificate);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| ConnectError::new(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
