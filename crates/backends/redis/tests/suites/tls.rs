//! Redis behind TLS with an authority of our own.

use std::sync::{Arc, mpsc};

use redis::cmd;
use xpush_core::ports::bus::{BusSink, Inbound};
use xpush_redis::{Connection, Options, RedisBus, Tls, redis};
use xpush_testkit::sample::node;
use xpush_testkit::service::redis::Redis;
use xpush_testkit::service::{PATIENCE, free_port};

struct Sink(mpsc::Sender<Inbound>);

impl BusSink for Sink {
    fn receive(&self, inbound: Inbound) {
        // The test may have ended.
        let _ = self.0.send(inbound);
    }
}

#[test]
fn commands_and_bus_go_by_tls_and_only_to_whom_the_authority_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(file("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(file("other.pem"), other.cert.pem()).unwrap();
    let port = free_port();
    let _server = Redis::start(&[
        &format!("tls-port {port}"),
        &format!("tls-cert-file {}", file("cert.pem").display()),
        &format!("tls-key-file {}", file("key.pem").display()),
        "tls-auth-clients no",
    ]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let options = |ca: &str| Options {
        tls: Some(Tls { ca: Some(file(ca)) }),
        ..Options::new(&[format!("rediss://localhost:{port}")], None).unwrap()
    };
    let attach = |ca: &str| {
        let (sender, news) = mpsc::channel();
        let sink = Arc::new(Sink(sender));
        let bus = RedisBus::attach(options(ca), node("a"), sink, runtime.handle()).unwrap();
        (bus, news)
    };
    let connection = Connection::open(options("cert.pem"), runtime.handle());
    runtime.block_on(async {
        connection.ready(PATIENCE).await.unwrap();
        let pong: String = connection.query(&cmd("PING")).await.unwrap();
        assert_eq!(pong, "PONG");
    });
    let (_bus, news) = attach("cert.pem");
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), Inbound::Up);
    let (bus, news) = attach("other.pem");
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), Inbound::Down);
    let error = runtime.block_on(bus.ready(std::time::Duration::ZERO)).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let (bus, news) = attach("missing.pem");
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), Inbound::Down);
    let error = runtime.block_on(bus.ready(std::time::Duration::ZERO)).unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
}
