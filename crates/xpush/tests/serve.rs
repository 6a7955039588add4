//! `xpush serve` as a real process: what it prints, what it answers, how it ends.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A server on a free port, in a folder of its own; killed at the end.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(name);
        configure(&mut command);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("http://") {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended: {:?}", child.wait_with_output());
        }
        let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).unwrap();
        let address = url.trim_end_matches('/').parse().unwrap();
        Self { child, stdout, address }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let host = self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn command(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xpush"));
    let stderr = fs::File::create(folder(name).join("log")).unwrap();
    command.current_dir(folder(name)).env("XPUSH_LISTEN", "127.0.0.1:0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    command
}

/// What a server that cannot start says; its exit code must be 1.
fn refusal(mut command: Command) -> String {
    let ended = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    String::from_utf8(ended.stderr).unwrap()
}

#[test]
fn it_answers_and_ends_on_sigterm() {
    let mut server = Server::start("answers", |_| {});
    assert_eq!(server.get("/livez"), (200, "{\"status\":\"ok\"}".to_owned()));
    assert_eq!(server.get("/readyz"), (200, "{\"status\":\"ok\"}".to_owned()));
    assert_eq!(server.get("/metrics").0, 200);
    assert_eq!(server.get("/nothing").0, 404);
    let (status, node) = server.get("/node/demo/room");
    assert_eq!(status, 200);
    assert!(node.contains(&format!("\"url\":\"http://{}\"", server.address)), "{node}");
    assert!(folder("answers").join("xpush-data").is_dir());

    server.signal(Signal::TERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Apps        demo: chat:* live:* (guests are welcome)"), "{rest}");
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn it_starts_in_time() {
    // The best of five: other work on this machine must not decide.
    let start = || {
        let before = Instant::now();
        let server = Server::start("in-time", |_| {});
        assert_eq!(server.get("/readyz").0, 200);
        before.elapsed()
    };
    let best = (0..5).map(|_| start()).min().unwrap();
    assert!(best <= Duration::from_millis(150), "{best:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start("second-signal", |_| {});
    // A request that never ends keeps it draining.
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    server.get("/livez");
    server.signal(Signal::TERM);
    while TcpStream::connect(server.address).is_ok() {
        std::thread::yield_now();
    }
    assert!(server.child.try_wait().unwrap().is_none(), "it drains");
    server.signal(Signal::INT);
    let before = Instant::now();
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    fs::write(folder("precedence").join("xpush.toml"), "data_dir = 'from-file'\nlisten = '127.0.0.1:1'")
        .unwrap();
    drop(Server::start("precedence", |_| {}));
    assert!(folder("precedence").join("from-file").is_dir(), "./xpush.toml is read");
    drop(Server::start("precedence", |command| {
        command.env("XPUSH_DATA_DIR", "from-environment");
    }));
    assert!(folder("precedence").join("from-environment").is_dir());
    drop(Server::start("precedence", |command| {
        command.env("XPUSH_DATA_DIR", "never").args(["serve", "--data-dir", "from-flag"]);
    }));
    assert!(folder("precedence").join("from-flag").is_dir());
    assert!(!folder("precedence").join("never").exists());
}

#[test]
fn a_taken_port_is_said_with_what_to_do() {
    let server = Server::start("taken", |_| {});
    let mut second = command("taken-second");
    second.args(["--listen", &server.address.to_string()]);
    let said = refusal(second);
    let address = server.address;
    assert!(said.starts_with(&format!("xpush: cannot listen on {address}: another program")), "{said}");
    assert!(said.contains("xpush --listen 127.0.0.1:"), "{said}");
}

#[test]
fn what_cannot_start_says_why() {
    fs::write(folder("cannot").join("file"), "").unwrap();
    let mut no_folder = command("cannot");
    no_folder.args(["--data-dir", "file/data"]);
    let said = refusal(no_folder);
    assert!(
        said.starts_with("xpush: cannot keep data in file/data: ") && said.contains("--data-dir FOLDER"),
        "{said}"
    );

    let mut no_config = command("cannot");
    no_config.env("XPUSH_CONFIG", "missing.toml");
    assert!(refusal(no_config).starts_with("xpush: cannot read missing.toml: "));

    let mut wrong_flag = command("cannot");
    wrong_flag.args(["--set", "limits.paylod=1MB"]);
    let said = refusal(wrong_flag);
    assert!(
        said.contains("--set limits.paylod: unknown key `paylod` in [limits]; did you mean `payload`?"),
        "{said}"
    );
}

#[test]
fn logs_may_be_json() {
    let mut server = Server::start("json", |command| {
        command.args(["--log-format", "json"]);
    });
    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());
    let log = fs::read_to_string(folder("json").join("log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["message"], "ready");
    assert_eq!(lines[1]["signal"], "SIGTERM");
}
