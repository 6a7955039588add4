//! Servers that speak TLS, to clients and to each other.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::Message;
use xpush_testkit::service::{PATIENCE, wait_until};

use crate::world::World;

/// What the certificates are for: not the address by which servers reach each other.
pub(crate) const NAME: &str = "push.example.com";

pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A certificate that is its own authority, in a folder.
pub(crate) fn certify(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Clients of these servers, who believe one certificate.
struct Clients<'a> {
    world: &'a World,
    certificate: CertificateDer<'static>,
}

/// A connection to whoever has this certificate.
pub(crate) fn connect(address: SocketAddr, certificate: &CertificateDer<'static>) -> Secure {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let session = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    StreamOwned::new(session, stream)
}

impl Clients<'_> {
    fn connect(&self, server: usize) -> Secure {
        connect(self.world.servers[server].address, &self.certificate)
    }

    /// Status and body of a request of long polling.
    fn poll(&self, server: usize, method: &str, query: &str, body: &str) -> (u16, String) {
        let mut stream = self.connect(server);
        let length = body.len();
        let request = format!(
            "{method} /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let mut text = String::new();
        // What was relayed comes in chunks; their lengths do no harm here.
        reader.read_to_string(&mut text).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), text)
    }

    /// A session at `server`.
    fn open(&self, server: usize) -> String {
        let (status, open) = self.poll(server, "GET", "", "");
        assert_eq!(status, 200, "{open}");
        let (_, sid) = open.split_once("\"sid\":\"").unwrap();
        format!("&sid={}", sid.split('"').next().unwrap())
    }
}

#[test]
fn strays_are_relayed_over_tls_to_whom_the_authority_vouches_for() {
    let mut world = World::services("secure");
    let mut first = None;
    for (number, authority) in
        ["../server-1/certificate.pem", "../server-1/certificate.pem", "other.pem"].into_iter().enumerate()
    {
        let tls = "\n[tls]\ncertificate = 'certificate.pem'\nkey = 'key.pem'\n";
        let peers = format!("[cluster]\npeer_ca = '{authority}'\npeer_name = '{NAME}'\n");
        let folder = world.add_with(&world.ways(), |config| config.replacen("[cluster]\n", &peers, 1) + tls);
        // All show the first one's certificate, and the last one believes another.
        let own = certify(&folder);
        if number == 0 {
            first = Some((own, folder));
        } else {
            fs::rename(folder.join("certificate.pem"), folder.join("other.pem")).unwrap();
            for file in ["certificate.pem", "key.pem"] {
                fs::copy(first.as_ref().unwrap().1.join(file), folder.join(file)).unwrap();
            }
        }
        world.servers[number].launch().unwrap();
    }
    world.settle();
    let clients = Clients { world: &world, certificate: first.unwrap().0 };

    // A session lives on the first server, and every request of it goes to the second.
    let sid = clients.open(0);
    wait_until("the second server knows the first", || clients.poll(1, "POST", &sid, "40").0 == 200);
    let (status, connected) = clients.poll(1, "GET", &sid, "");
    assert!(status == 200 && connected.contains("40{\"sid\""), "{connected}");

    // Its upgrade, too.
    let url = format!("wss://{NAME}/socket.io/?EIO=4&transport=websocket{sid}");
    let (mut socket, _) = tungstenite::client(url, clients.connect(1)).unwrap();
    socket.send(Message::text("2probe")).unwrap();
    assert_eq!(socket.read().unwrap().to_text().unwrap(), "3probe");
    socket.send(Message::text("5")).unwrap();
    socket.send(Message::text(r#"421["ping",{}]"#)).unwrap();
    let answer = loop {
        let message = socket.read().unwrap();
        let text = message.to_text().unwrap();
        if text.starts_with("43") {
            break text.to_owned();
        }
    };
    assert!(answer.starts_with("431["), "{answer}");

    // Who does not believe the first server's certificate sends it nothing.
    let sid = clients.open(0);
    assert_eq!(clients.poll(2, "POST", &sid, "40").0, 400);
    assert_eq!(clients.poll(1, "POST", &sid, "40").0, 200);
    world.gone();
}
