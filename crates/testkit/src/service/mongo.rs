//! A server that speaks MongoDB's protocol. None of these is MongoDB: what they prove is proved for them.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::daemon::Daemon;

use super::{free_port, wait_until};

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// SecantusDB (Python, WiredTiger): `secantusd-py`, where the variable `SECANTUSDB_BIN` says, or in the environment that `cargo xtask test` makes.
    SecantusDb,
    /// FerretDB 1.24 (Go, SQLite): the program that the variable `XPUSH_FERRETDB` names.
    FerretDb,
}

/// A running server; killed at the end. Its port and its files stay its own through restarts.
pub struct Mongo {
    product: Product,
    program: PathBuf,
    settings: Vec<String>,
    daemon: Option<Daemon>,
    folder: TempDir,
    port: u16,
}

impl Product {
    /// The one that tests run against: FerretDB when `XPUSH_FERRETDB` is set, else SecantusDB.
    pub fn wanted() -> Self {
        if std::env::var_os("XPUSH_FERRETDB").is_some() { Self::FerretDb } else { Self::SecantusDb }
    }

    fn program(self) -> PathBuf {
        let named = |variable| std::env::var_os(variable).map(|path: OsString| PathBuf::from(path));
        match self {
            Self::FerretDb => named("XPUSH_FERRETDB").expect("XPUSH_FERRETDB names the program"),
            Self::SecantusDb => named("SECANTUSDB_BIN").unwrap_or_else(|| {
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/xtask/venv/bin/secantusd-py")
            }),
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecantusDb => "SecantusDB 0.7.0b3",
            Self::FerretDb => "FerretDB 1.24",
        })
    }
}

impl Mongo {
    /// Starts one that has on disk what it has acknowledged: SecantusDB does so only when it is told to.
    pub fn durable(product: Product) -> Self {
        match product {
            Product::SecantusDb => Self::start(product, &["--sync-on-commit"]),
            Product::FerretDb => Self::start(product, &[]),
        }
    }

    /// Starts a server with an empty folder. Each of `settings` is an argument of its own.
    pub fn start(product: Product, settings: &[&str]) -> Self {
        let program = product.program();
        assert!(
            program.exists(),
            "{} is not there: `cargo xtask test` installs SecantusDB; FerretDB is yours to build",
            program.display()
        );
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { product, program, settings, daemon: None, folder, port: free_port() };
        server.launch();
        server
    }

    fn launch(&mut self) {
        let mut command = Command::new(&self.program);
        let folder = self.folder.path();
        match self.product {
            Product::SecantusDb => {
                command.args(["--host", "127.0.0.1", "--log-level", "ERROR"]);
                command
                    .arg("--port")
                    .arg(self.port.to_string())
                    .arg("--storage-path")
                    .arg(folder.join("data"));
            }
            Product::FerretDb => {
                command.args([
                    "--handler=sqlite",
                    "--telemetry=disable",
                    "--debug-addr=-",
                    "--log-level=error",
                ]);
                command.arg(format!("--listen-addr=127.0.0.1:{}", self.port));
                command.arg(format!("--sqlite-url=file:{}/", folder.display()));
                command.arg(format!("--state-dir={}", folder.display()));
            }
        }
        // In its own folder: it finds no configuration there.
        command.args(&self.settings).current_dir(folder).env("HOME", folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.daemon = Some(Daemon::start(&mut command).expect("the server starts"));
        let address = self.address();
        wait_until("the server takes connections", || {
            let daemon = self.daemon.as_mut().expect("it was just started");
            assert!(!daemon.has_ended().expect("its state"), "the server has ended");
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where it listens, as a connection string.
    pub fn uri(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address())
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Starts it again on its port, with its files.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// Kills it, and starts it again, and another one on a copy of what it has left.
    pub fn crash(&mut self) -> Self {
        self.kill();
        let folder = tempfile::tempdir().expect("a folder");
        copy(self.folder.path(), folder.path()).expect("a copy");
        self.launch();
        let (program, settings) = (self.program.clone(), self.settings.clone());
        let mut other =
            Self { product: self.product, program, settings, daemon: None, folder, port: free_port() };
        other.launch();
        other
    }

    /// Stops it, copies what it has, and lets it go on.
    pub fn back_up(&mut self) -> TempDir {
        self.kill();
        let backup = tempfile::tempdir().expect("a folder");
        copy(self.folder.path(), backup.path()).expect("a copy");
        self.launch();
        backup
    }

    /// Stops it, puts a backup in the place of what it has, and starts it with that.
    pub fn put_back(&mut self, backup: &TempDir) {
        self.kill();
        for entry in fs::read_dir(self.folder.path()).expect("its folder") {
            let path = entry.expect("its files").path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("a file less");
        }
        copy(backup.path(), self.folder.path()).expect("a copy");
        self.launch();
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): connections stay, and nobody answers.
    pub fn freeze(&self) {
        self.daemon().freeze().expect("a signal");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.daemon().thaw().expect("a signal");
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a running server")
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
