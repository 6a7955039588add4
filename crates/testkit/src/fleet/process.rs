//! A server as a child process.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running server; killed at the end.
pub struct Process {
    child: Child,
    /// Kept open, so that the server can go on printing.
    _stdout: BufReader<ChildStdout>,
    addresses: Vec<SocketAddr>,
}

impl Process {
    /// Starts a server, and reads from what it prints where its nodes listen: one line that holds an URL of each.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or_else(|| io::Error::other("no output"))?);
        let mut line = String::new();
        let addresses = loop {
            line.clear();
            if stdout.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!("the server ended: {:?}", child.wait()?)));
            }
            let addresses: Vec<_> = line.split_whitespace().filter_map(address).collect();
            if !addresses.is_empty() {
                break addresses;
            }
        };
        Ok(Self { child, _stdout: stdout, addresses })
    }

    /// Where its nodes listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): connections stay, and nobody answers.
    pub fn freeze(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::STOP)?)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::CONT)?)
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.kill();
    }
}

fn address(word: &str) -> Option<SocketAddr> {
    word.split_once("://")?.1.trim_end_matches('/').parse().ok()
}
