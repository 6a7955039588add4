//! Where the server is, and how it is spoken to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mongodb::options::{
    Acknowledgment, AuthMechanism, ClientOptions, Credential, Tls, TlsOptions, WriteConcern,
};

use super::OpenError;

/// How long a command may take, and how long one waits for a server that takes writes: callers give up after two seconds themselves.
const PATIENCE: Duration = Duration::from_millis(1800);

/// How often each server is asked how it is: one that hangs is noticed so.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Where the store is. Not `Debug` as it stands: it holds secrets.
#[derive(Clone)]
pub struct Options {
    /// `mongodb://` or `mongodb+srv://` …; options in it hold, but for concerns, which are this crate's to choose.
    pub uri: String,
    /// The database: everything in it is XPUSH's.
    pub database: String,
    /// Certificates (PEM) of the authorities that the server's certificate may come from; turns TLS on. Without one, and with TLS in the URI, the usual ones of the web.
    pub ca_file: Option<PathBuf>,
    /// The user name, where the URI does not have it.
    pub username: Option<String>,
    /// The password, where the URI does not have it.
    pub password: Option<String>,
    /// How long a command may take.
    pub patience: Duration,
    /// Connections to each server, at most.
    pub connections: u32,
}

impl Options {
    /// The usual ones.
    pub fn new(uri: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            database: database.into(),
            ca_file: None,
            username: None,
            password: None,
            patience: PATIENCE,
            connections: 32,
        }
    }

    pub(super) async fn client(&self) -> Result<ClientOptions, OpenError> {
        // The parser's own words may quote the URI, and so the password.
        let mut options = ClientOptions::parse(&self.uri).await.map_err(|_| OpenError::BadUri)?;
        options.app_name.get_or_insert_with(|| "xpush".to_owned());
        options.server_selection_timeout = Some(self.patience.mul_f32(0.75));
        options.connect_timeout = Some(self.patience.mul_f32(0.75));
        options.heartbeat_freq = Some(HEARTBEAT);
        options.max_pool_size = Some(self.connections);
        options.write_concern = Some(durable());
        if let Some(ca) = &self.ca_file {
            options.tls = Some(Tls::Enabled(TlsOptions::builder().ca_file_path(ca.clone()).build()));
        }
        if let Some(username) = &self.username {
            let given = options.credential.take();
            let source = given.as_ref().and_then(|given| given.source.clone());
            let mechanism: Option<AuthMechanism> = given.and_then(|given| given.mechanism);
            let mut credential = Credential::builder().username(username.clone()).build();
            credential.password.clone_from(&self.password);
            (credential.source, credential.mechanism) = (source, mechanism);
            options.credential = Some(credential);
        } else if let (Some(credential), Some(password)) = (&mut options.credential, &self.password) {
            credential.password = Some(password.clone());
        }
        Ok(options)
    }
}

/// On the disks of a majority.
pub(super) fn durable() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("database", &self.database)
            .field("ca_file", &self.ca_file)
            .field("patience", &self.patience)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let mut options = Options::new("mongodb://ann:hunter2@localhost/", "xpush");
        (options.username, options.password) = (Some("bob".into()), Some("hunter3".into()));
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter") && !shown.contains("ann"), "{shown}");
    }

    #[tokio::test]
    async fn a_uri_that_cannot_be_read_is_not_repeated() {
        let error = Options::new("mongodb://ann:hunter2@:x/%", "xpush").client().await.unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn credentials_beside_the_uri_hold() {
        let mut options = Options::new("mongodb://localhost/?authSource=people", "xpush");
        (options.username, options.password) = (Some("bob".into()), Some("hunter3".into()));
        let credential = options.client().await.unwrap().credential.unwrap();
        assert_eq!(credential.username.as_deref(), Some("bob"));
        assert_eq!(credential.password.as_deref(), Some("hunter3"));
    }
}
