//! A program that a test has started.

use std::io;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running program, which reads nothing; killed by SIGKILL and waited for when it is dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts it. Where the other two streams go, the command says.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).spawn().map(Self)
    }

    /// What it prints, when the command has made a pipe of that.
    pub(crate) fn stdout(&mut self) -> io::Result<ChildStdout> {
        self.0.stdout.take().ok_or_else(|| io::Error::other("no output"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): connections stay, and nobody answers.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    pub(crate) fn end(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.0.wait()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.kill();
    }
}
