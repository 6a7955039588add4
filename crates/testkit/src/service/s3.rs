//! A server that speaks S3: the Versity gateway, over a folder. It checks signatures, and makes multipart uploads as S3 does.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{free_port, wait_until};
use crate::daemon::Daemon;

/// A running server with one bucket, [`BUCKET`](Self::BUCKET); killed at the end.
pub struct S3 {
    _daemon: Daemon,
    folder: TempDir,
    port: u16,
}

impl S3 {
    /// The bucket.
    pub const BUCKET: &str = "xpush-files";
    /// Who may ask.
    pub const ACCESS_KEY: &str = "access-of-tests";
    /// What requests are signed with.
    pub const SECRET_KEY: &str = "secret-of-tests";

    /// Starts one. The program is where the variable `VERSITYGW_BIN` says, or where `cargo xtask test` has built it.
    pub fn start() -> Self {
        let program = std::env::var_os("VERSITYGW_BIN").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/xtask/go/versitygw"),
            PathBuf::from,
        );
        assert!(program.exists(), "{} is not there: `cargo xtask test` builds it", program.display());
        // Its metadata are extended attributes, which not every temporary folder has: they go beside it.
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["objects", "objects/xpush-files", "beside"] {
            fs::create_dir(folder.path().join(name)).expect("a folder in it");
        }
        let port = free_port();
        let mut command = Command::new(program);
        command
            .args(["--port", &format!("127.0.0.1:{port}"), "--quiet"])
            .args(["--access", Self::ACCESS_KEY, "--secret", Self::SECRET_KEY])
            .arg("posix")
            .arg("--sidecar")
            .arg(folder.path().join("beside"))
            .arg(folder.path().join("objects"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let daemon = Daemon::start(&mut command).expect("the S3 server starts");
        let server = Self { _daemon: daemon, folder, port };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until("the S3 server answers", || TcpStream::connect(address).is_ok());
        server
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Objects whose names begin with `prefix/`, and uploads in parts that were begun and not ended there.
    pub fn kept(&self, prefix: &str) -> usize {
        let bucket = self.folder.path().join("objects").join(Self::BUCKET);
        let count = |folder: PathBuf| fs::read_dir(folder).map_or(0, |entries| entries.count());
        count(bucket.join(prefix)) + uploads(&bucket.join(".sgwtmp/multipart"))
    }
}

fn uploads(multipart: &Path) -> usize {
    // One folder an object, by a digest of its name; in it one an upload.
    let folders = fs::read_dir(multipart).into_iter().flatten().flatten();
    folders.map(|folder| fs::read_dir(folder.path()).map_or(0, |uploads| uploads.count())).sum()
}
