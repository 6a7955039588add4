//! A ZooKeeper that speaks TLS only, and wants to know who asks.

use std::net::SocketAddr;
use std::time::Duration;

use xpush_core::ports::cluster::{Cluster, Standing};
use xpush_testkit::sample::{name, server};
use xpush_testkit::service::free_port;
use xpush_testkit::service::zookeeper::ZooKeeper;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::cluster::join;
use xpush_zookeeper::{Options, Tls};

use super::{open, watch};

#[test]
fn certificates_are_shown_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let make = |host: &str| rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let (server_, client, other) = (make("127.0.0.1"), make("xpush"), make("127.0.0.1"));
    let keys = folder.path().join("server.pem");
    std::fs::write(&keys, server_.signing_key.serialize_pem() + &server_.cert.pem()).unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, client.cert.pem()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let settings = [
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        "secureClientPortAddress=127.0.0.1".to_owned(),
        format!("secureClientPort={}", address.port()),
        format!("ssl.keyStore.location={}", keys.display()),
        format!("ssl.trustStore.location={}", trusted.display()),
        "ssl.clientAuth=need".to_owned(),
        "ssl.hostnameVerification=false".to_owned(),
    ];
    let _zookeeper = ZooKeeper::start(&settings.each_ref().map(String::as_str));

    let with = |ca: &rcgen::CertifiedKey<rcgen::KeyPair>,
                identity: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>| {
        let identity = identity.map(|one| (one.cert.pem(), one.signing_key.serialize_pem()));
        let mut options = Options::new(address.to_string());
        options.tls = Some(Tls { ca: ca.cert.pem(), identity });
        // So long a stranger tries.
        options.session_timeout = Duration::from_secs(2);
        options
    };
    let ours = open(&with(&server_, Some(&client)));
    join(&ours, server("a")).unwrap().settle(&["a"]);
    // Who does not know ZooKeeper, or is not known to it, learns nothing; nor does who does not encrypt.
    for stranger in [
        with(&other, Some(&client)),
        with(&server_, None),
        with(&server_, Some(&other)),
        Options::new(address.to_string()),
    ] {
        let handle = open(&stranger);
        let views = watch(&handle);
        assert!(answer(|done| handle.set_draining(&name("a"), true, done)).is_err());
        assert!(views.all().iter().all(|view| view.standing == Standing::Frozen && view.nodes.is_empty()));
    }
}
