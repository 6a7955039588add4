//! The variants of config/nginx/xpush.conf that are comments there: TLS, and channels kept together. What is not, `e2e/suites/cluster.test.mjs` runs behind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tungstenite::{Message, WebSocket};
use xpush_testkit::service::{free_port, wait_until};

use crate::secure::{NAME, Secure, certify, connect};
use crate::world::World;

/// nginx, killed at the end.
struct Nginx(Child);

impl Nginx {
    fn start(folder: &Path, address: SocketAddr, site: &str) -> Self {
        fs::write(folder.join("site.conf"), site).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", folder.join(kind).display()))
            .concat();
        // One process, which nothing outlives.
        let main = format!(
            "daemon off; master_process off; pid {0}/pid; error_log stderr warn;\nevents {{ worker_connections 512; }}\nhttp {{ access_log off; {temporary} include {0}/site.conf; }}\n",
            folder.display()
        );
        fs::write(folder.join("nginx.conf"), main).unwrap();
        let log = fs::File::create(folder.join("nginx.log")).unwrap();
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut command = Command::new("nginx");
        command
            .args(["-e", "stderr", "-p"])
            .arg(folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .env("PATH", path);
        let child = command.stdin(Stdio::null()).stderr(log).spawn().expect("nginx is installed");
        let nginx = Self(child);
        wait_until("nginx", || TcpStream::connect(address).is_ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sample, with its other variant of each choice, for our addresses and files.
fn site(folder: &Path, front: SocketAddr, servers: [SocketAddr; 2]) -> String {
    let sample =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/nginx/xpush.conf")).unwrap();
    let mut site = sample;
    let mut change = |from: &str, to: &str| {
        assert!(site.contains(from), "the sample has no `{from}`");
        site = site.replace(from, to);
    };
    change("    listen 80;\n", "");
    change("# listen 443 ssl http2;", &format!("listen {front} ssl;"));
    change("# ssl_", "ssl_");
    change(
        "/etc/letsencrypt/live/push.example.com/fullchain.pem",
        &folder.join("certificate.pem").display().to_string(),
    );
    change(
        "/etc/letsencrypt/live/push.example.com/privkey.pem",
        &folder.join("key.pem").display().to_string(),
    );
    change("# hash ", "hash ");
    change("/etc/nginx/xpush.htpasswd", &folder.join("htpasswd").display().to_string());
    change("    server 10.0.0.3:8001 max_fails=1 fail_timeout=3s;\n", "");
    for (number, server) in servers.iter().enumerate() {
        for port in [8000, 8001] {
            change(&format!("server 10.0.0.{}:{port}", number + 1), &format!("server {server}"));
        }
    }
    fs::write(folder.join("htpasswd"), "operator:{PLAIN}secret\n").unwrap();
    site
}

fn get(mut stream: Secure, path: &str, more: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n{more}\r\n").unwrap();
    let mut answer = Vec::new();
    // nginx may end without `close_notify`.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0), answer)
}

#[test]
fn tls_passwords_and_channels_that_are_kept_together() {
    let mut world = World::services("nginx");
    for _ in 0..2 {
        let ways = world.ways();
        world.add_with(&ways, |config| format!("trusted_proxies = ['127.0.0.1']\n{config}"));
    }
    for server in &mut world.servers {
        server.launch().unwrap();
    }
    world.settle();
    let folder = world.servers[0].folder().join("nginx");
    fs::create_dir_all(&folder).unwrap();
    let certificate = certify(&folder);
    let front = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _nginx = Nginx::start(
        &folder,
        front,
        &site(&folder, front, [world.servers[0].address, world.servers[1].address]),
    );

    // Behind a password, what is for operators; everything else is not.
    for path in ["/metrics", "/readyz", "/livez"] {
        assert_eq!(get(connect(front, &certificate), path, "").0, 401, "{path}");
        // operator:secret
        let (status, answer) =
            get(connect(front, &certificate), path, "Authorization: Basic b3BlcmF0b3I6c2VjcmV0\r\n");
        assert_eq!(status, 200, "{answer}");
    }
    let (status, answer) = get(connect(front, &certificate), "/api/v1/assign?channel=live:a", "");
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = get(connect(front, &certificate), "/node/demo/live:a", "");
    assert!(
        answer.contains(&format!("https://{NAME}")),
        "what names a server names it as it was reached: {answer}"
    );

    // Those who name a channel come to one server; those who name none are spread.
    let open = |query: &str| -> WebSocket<Secure> {
        let url = format!("wss://{NAME}/ws{query}");
        let (mut socket, _) = tungstenite::client(url, connect(front, &certificate)).unwrap();
        socket.send(Message::text(r#"{"id":1,"cmd":"connect"}"#)).unwrap();
        while !socket.read().unwrap().to_text().unwrap().contains("\"id\":1") {}
        socket
    };
    let connections = || {
        [0, 1].map(|server: usize| {
            let (_, metrics) = world.servers[server].get("/metrics");
            let line = metrics.lines().find(|line| line.starts_with("xpush_connections ")).unwrap();
            line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
        })
    };
    let together: Vec<_> = (0..8).map(|_| open("?channel=live:a")).collect();
    let [one, other] = connections();
    assert!(one + other == 8 && one * other == 0, "{one} and {other}");
    drop(together);
    wait_until("they have gone", || connections() == [0, 0]);
    let spread: Vec<_> = (0..16).map(|_| open("")).collect();
    let [one, other] = connections();
    assert!(one + other == 16 && one > 0 && other > 0, "{one} and {other}");
    drop(spread);
    world.gone();
}
