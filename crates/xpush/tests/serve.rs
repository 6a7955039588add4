//! `xpush serve` as a real process: what it prints, what it answers, how it ends.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tungstenite::WebSocket;
use xpush_testkit::service::wait_until;

/// A server on a free port, in a folder of its own; killed at the end.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
    log: PathBuf,
}

/// A client on `/ws`.
struct Client {
    socket: WebSocket<TcpStream>,
}

impl Server {
    fn start(name: &str, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(name);
        configure(&mut command);
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { child, stdout, address, log: folder(name).join("log") };
        server.hear_address();
        server
    }

    /// Where it listens, as it says when it is ready.
    fn hear_address(&mut self) {
        let mut line = String::new();
        let address = |line: &str| {
            let (_, url) = line.split_whitespace().find_map(|word| word.split_once("://"))?;
            // Other lines lead to pages.
            url.trim_end_matches('/').parse().ok()
        };
        self.address = loop {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "it ended: {}", self.log());
            if let Some(address) = address(&line) {
                break address;
            }
        };
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.get_by(TcpStream::connect(self.address).unwrap(), path)
    }

    fn get_by(&self, mut stream: impl Read + Write, path: &str) -> (u16, String) {
        let host = self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A guest of the app `demo`.
    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{}/ws", self.address), stream).unwrap();
        let mut client = Client { socket };
        client.send(r#"{"id":0,"cmd":"connect"}"#);
        assert_eq!(client.push()["ok"]["app"], "demo");
        client
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Client {
    fn send(&mut self, command: &str) {
        self.socket.send(command.into()).unwrap();
    }

    /// The next thing that the server says.
    fn push(&mut self) -> Value {
        serde_json::from_str(self.socket.read().unwrap().to_text().unwrap()).unwrap()
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
    assert!(
        rest.contains(
            "Apps        demo: chat:* room:* @* live:* $presence (guests are welcome; anybody may register)"
        ),
        "{rest}"
    );
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn draining_tells_the_clients_and_ends_when_they_are_gone() {
    let mut server = Server::start("drain", |_| {});
    let mut client = server.client();
    server.signal(Signal::TERM);
    assert_eq!(client.push()["push"], "moved");
    client.socket.close(None).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(server.log().contains("drained"), "{}", server.log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start("second-signal", |_| {});
    let mut client = server.client();
    server.signal(Signal::TERM);
    assert_eq!(client.push()["push"], "moved");
    assert!(server.child.try_wait().unwrap().is_none(), "it waits for the client to go");
    server.signal(Signal::INT);
    let before = Instant::now();
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[test]
fn what_a_terminal_tells_a_supervised_server_ends_it_in_order() {
    let mut server = Server::start("supervised", |command| {
        command.arg("--supervised").process_group(0);
    });
    // It has died before: it is started again, and that must not outlive an end that was asked for.
    let threads = fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let children = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap());
    let children: String = children.collect();
    let child = children.trim().parse().ok().and_then(Pid::from_raw).unwrap();
    kill_process(child, Signal::KILL).unwrap();
    server.hear_address();
    let mut client = server.client();
    kill_process_group(Pid::from_child(&server.child), Signal::INT).unwrap();
    assert_eq!(client.push()["push"], "moved");
    client.socket.close(None).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(server.log().contains("drained"), "{}", server.log());
}

#[test]
fn two_clients_talk() {
    let server = Server::start("talk", |_| {});
    let (mut ann, mut ben) = (server.client(), server.client());
    ann.send(r#"{"id":1,"cmd":"subscribe","channel":"chat:lobby"}"#);
    assert_eq!(ann.push()["ok"]["channel"], "chat:lobby");
    ben.send(r#"{"id":1,"cmd":"publish","channel":"chat:lobby","data":"hello"}"#);
    assert_eq!(ben.push()["ok"]["seq"], 1);
    let message = ann.push();
    assert_eq!((&message["push"], &message["data"]), (&"message".into(), &"hello".into()));
    let (_, metrics) = server.get("/metrics");
    assert!(metrics.ends_with("# EOF\n") && metrics.matches("# EOF").count() == 1, "{metrics}");
    assert!(metrics.contains("\nxpush_store_commit_messages_sum 1.0\n"), "{metrics}");
}

#[test]
fn with_a_certificate_it_speaks_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = folder("tls");
    fs::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(
        folder.join("xpush.toml"),
        "listen = '127.0.0.1:0'\n[tls]\ncertificate = 'certificate.pem'\nkey = 'key.pem'",
    )
    .unwrap();
    let checked = command("tls").args(["check-config", "xpush.toml"]).output().unwrap();
    let summary = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && summary.contains("127.0.0.1:0 (TLS)"), "{summary}");

    let mut server = Server::start("tls", |_| {});
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let stream = StreamOwned::new(session, TcpStream::connect(server.address).unwrap());
    let (status, node) = server.get_by(stream, "/node/demo/room");
    assert_eq!(status, 200);
    assert!(node.contains(&format!("\"url\":\"https://{}\"", server.address)), "{node}");
    server.signal(Signal::TERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));

    fs::remove_file(folder.join("key.pem")).unwrap();
    let said = refusal(command("tls"));
    assert!(said.starts_with("xpush: cannot use key.pem: No such file"), "{said}");
    let checked =
        command("tls").args(["check-config", "xpush.toml"]).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(said.starts_with("xpush.toml: [tls] cannot use key.pem: No such file"), "{said}");
}

/// What the server shows in a handshake, which fails when it is another certificate than `expected`.
fn shows(server: &Server, expected: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(expected.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = TcpStream::connect(server.address).unwrap();
    while session.is_handshaking() {
        if session.complete_io(&mut stream).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn a_new_certificate_is_shown_and_a_bad_one_refused() {
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (old, new) = (make(), make());
    let folder = folder("renewed");
    let write = |name: &str, text: &str| {
        // As those who renew certificates do it: never a half file.
        fs::write(folder.join("fresh"), text).unwrap();
        fs::rename(folder.join("fresh"), folder.join(name)).unwrap();
    };
    write("certificate.pem", &old.cert.pem());
    write("key.pem", &old.signing_key.serialize_pem());
    write("xpush.toml", "listen = '127.0.0.1:0'\n[tls]\ncertificate = 'certificate.pem'\nkey = 'key.pem'");
    let server = Server::start("renewed", |_| {});
    let (old_one, new_one) = (old.cert.der(), new.cert.der());
    assert!(shows(&server, old_one) && !shows(&server, new_one));
    // A certificate without its key is no good, and neither is garbage.
    write("certificate.pem", &new.cert.pem());
    wait_until("it is refused", || {
        server.log().contains("the old one is kept: cannot use key.pem: not the key of certificate.pem")
    });
    write("certificate.pem", "garbage");
    wait_until("it is refused", || {
        server.log().contains("the old one is kept: cannot use certificate.pem: it has no certificate")
    });
    assert!(shows(&server, old_one));

    write("certificate.pem", &new.cert.pem());
    write("key.pem", &new.signing_key.serialize_pem());
    wait_until("it is shown", || shows(&server, new_one));
    assert!(!shows(&server, old_one));
    assert_eq!(server.log().matches("the old one is kept").count(), 2, "each is said once: {}", server.log());
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
    let log = server.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["message"], "ready");
    assert_eq!(lines[1]["signal"], "SIGTERM");
}

#[test]
fn an_app_that_is_live_is_said_to_hide_the_files() {
    let file = |guests: bool| {
        let text = format!(
            "[apps.shop]\nguests = {guests}\n[[apps.shop.rules]]\nchannels = \"*\"\npublish = \"anyone\"\n"
        );
        fs::write(folder("hidden").join("xpush.toml"), text).unwrap();
    };
    let banner = |server: &mut Server| {
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            assert!(server.stdout.read_line(&mut text).unwrap() > 0, "{text}");
        }
        text
    };
    let doctor = || {
        let output = command("hidden").arg("doctor").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    file(true);
    let mut server = Server::start("hidden", |_| {});
    assert!(banner(&mut server).contains("shop: * (guests are welcome)"));
    assert!(!server.log().contains("has no effect"), "{}", server.log());
    drop(server);
    assert!(doctor().contains("nothing that the configuration says is hidden"), "{}", doctor());

    let set = command("hidden").args(["app", "set", "shop", "--set", "guests=false"]).output().unwrap();
    assert!(set.status.success(), "{set:?}");
    let mut server = Server::start("hidden", |_| {});
    let warned =
        "the app `shop` is live: what the configuration says of it has no effect, and differs in guests";
    assert!(server.log().contains(warned), "{}", server.log());
    assert!(banner(&mut server).contains("shop: as it was set up live (xpush app show shop)"));
    drop(server);
    assert!(doctor().contains(warned), "{}", doctor());

    // Also while both say the same: what somebody writes into the file next has no effect.
    file(false);
    let server = Server::start("hidden", |_| {});
    assert!(server.log().contains("has no effect (it says the same)"), "{}", server.log());
    drop(server);
    let delete = command("hidden").args(["app", "delete", "shop", "--yes"]).output().unwrap();
    assert!(delete.status.success(), "{delete:?}");
    let server = Server::start("hidden", |_| {});
    assert!(!server.log().contains("has no effect"), "{}", server.log());
}

#[test]
fn nobody_is_told_that_the_usual_app_is_hidden_without_having_configured_it() {
    let folder = "usual";
    let set = command(folder).args(["app", "set", "demo", "--set", "guests=false"]).output().unwrap();
    assert!(set.status.success(), "{set:?}");
    let server = Server::start(folder, |_| {});
    assert!(!server.log().contains("has no effect"), "{}", server.log());
    drop(server);
    let server = Server::start(folder, |command| {
        command.arg("--demo");
    });
    assert!(server.log().contains("the app `demo` is live"), "--demo has no effect: {}", server.log());
}
