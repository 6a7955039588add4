//! A server as a child process.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};

use crate::daemon::Daemon;

/// A running server; killed at the end.
pub struct Process {
    daemon: Daemon,
    /// Kept open, so that the server can go on printing.
    _stdout: BufReader<ChildStdout>,
    addresses: Vec<SocketAddr>,
}

impl Process {
    /// Starts a server, and reads from what it prints where its nodes listen: one line that holds an URL of each.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut daemon = Daemon::start(command.stdout(Stdio::piped()))?;
        let mut stdout = BufReader::new(daemon.stdout()?);
        let mut line = String::new();
        let addresses = loop {
            line.clear();
            if stdout.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the server ended"));
            }
            let addresses: Vec<_> = line.split_whitespace().filter_map(address).collect();
            if !addresses.is_empty() {
                break addresses;
            }
        };
        Ok(Self { daemon, _stdout: stdout, addresses })
    }

    /// Where its nodes listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.daemon.id()
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): connections stay, and nobody answers.
    pub fn freeze(&self) -> io::Result<()> {
        self.daemon.freeze()
    }

    /// Lets it go on.
    pub fn thaw(&self) -> io::Result<()> {
        self.daemon.thaw()
    }

    /// Asks it to end by SIGTERM, and waits until it has: how it did.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        self.daemon.end()
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.daemon.kill()
    }
}

fn address(word: &str) -> Option<SocketAddr> {
    word.split_once("://")?.1.trim_end_matches('/').parse().ok()
}
