//! One program of the cluster: its process, its output, its end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::suite::needs::find;

use super::Stop;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What an answer on loopback may take.
const ANSWER: Duration = Duration::from_secs(2);

/// A running program; killed when it is dropped.
pub(super) struct Program {
    name: &'static str,
    log: String,
    child: Child,
    over: bool,
}

/// What becomes of a program's output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Into its log file.
    Logged,
    /// Shown, too, with its name in front.
    Shown,
}

impl Program {
    /// Starts it in a group of its own, which Ctrl-C does not reach; the kernel ends it by `at_last` when this process is gone.
    pub(super) fn start(
        name: &'static str,
        folder: &Path,
        output: Output,
        at_last: &str,
        command: &Command,
    ) -> Result<Self, String> {
        let log = folder.join(format!("{name}.log"));
        let failed = |error: std::io::Error| format!("{name} cannot be started: {error}");
        let file = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let mut command = tied(command, at_last);
        command.stdin(Stdio::null()).stderr(file.try_clone().map_err(failed)?).process_group(0);
        match output {
            Output::Logged => command.stdout(file.try_clone().map_err(failed)?),
            Output::Shown => command.stdout(Stdio::null()).stderr(Stdio::piped()),
        };
        let mut child = command.spawn().map_err(failed)?;
        if let Some(lines) = child.stderr.take() {
            thread::spawn(move || show(name, BufReader::new(lines), file));
        }
        Ok(Self { name, log: log.display().to_string(), child, over: false })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error when it has ended.
    pub(super) fn must_run(&mut self) -> Result<(), String> {
        match self.ended() {
            Some(status) => Err(format!("{} has ended ({status}): see {}", self.name, self.log)),
            None => Ok(()),
        }
    }

    /// How it has ended; told once.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = if self.over { None } else { self.child.try_wait().ok().flatten() };
        self.over |= status.is_some();
        status
    }

    /// `std` has no call that signals another process but by SIGKILL.
    pub(super) fn signal(&self, signal: &str) {
        if !self.over {
            let _ = Command::new("kill").args([&format!("-{signal}"), &self.id().to_string()]).status();
        }
    }

    /// Waits for its end until `deadline`, then kills it.
    pub(super) fn end_by(&mut self, deadline: Instant) {
        while !self.over
            && self.child.try_wait().is_ok_and(|status| status.is_none())
            && Instant::now() < deadline
        {
            // Nobody wakes us: `std` cannot wait for a process and for a time at once.
            thread::park_timeout(PAUSE);
        }
        self.kill();
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.over = true;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The same command, which does not outlive this process where the system can see to that.
fn tied(command: &Command, at_last: &str) -> Command {
    let Some(setpriv) = find("setpriv") else {
        return rebuilt(Command::new(command.get_program()), command);
    };
    let mut tied = Command::new(setpriv);
    tied.args(["--pdeathsig", at_last, "--"]).arg(command.get_program());
    rebuilt(tied, command)
}

fn rebuilt(mut new: Command, old: &Command) -> Command {
    new.args(old.get_args());
    for (name, value) in old.get_envs() {
        match value {
            Some(value) => new.env(name, value),
            None => new.env_remove(name),
        };
    }
    if let Some(folder) = old.get_current_dir() {
        new.current_dir(folder);
    }
    new
}

fn show(name: &str, lines: impl BufRead, mut file: File) {
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // A full disk or a closed terminal does not stop the servers.
        let _ = writeln!(file, "{line}");
        let _ = writeln!(std::io::stdout(), "{name} | {line}");
    }
}

/// Looks again and again until `probe` says yes.
pub(super) fn wait_for(
    what: &str,
    patience: Duration,
    ended: &Receiver<()>,
    mut probe: impl FnMut() -> Result<bool, String>,
) -> Result<(), Stop> {
    let deadline = Instant::now() + patience;
    while !probe()? {
        if Instant::now() > deadline {
            return Err(Stop::Failed(format!("{what}: not ready after {} s", patience.as_secs())));
        }
        match ended.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Err(Stop::Asked),
        }
    }
    Ok(())
}

/// Whether somebody listens at this port of this machine.
pub(super) fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ANSWER).is_ok()
}

/// Whether what is asked for there is answered by 200.
pub(super) fn http_ok(port: u16, path: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n")?;
        let mut head = Vec::new();
        stream.take(12).read_to_end(&mut head)?;
        Ok(String::from_utf8_lossy(&head).into_owned())
    };
    ask().is_ok_and(|head| head == "HTTP/1.1 200")
}
