//! Several servers: what they share, and every refusal.

use super::*;

const THREE: &str = "[zookeeper]\nservers = 'a:1,b'\n[redis]\nurl = 'redis://:hunter2@a'\n[mongodb]\nurl = 'mongodb://ann:hunter2@a'";

fn read(text: &str) -> Result<Settings, String> {
    let sources = Sources { file: Some(("x.toml", text)), files: apps::FILES, ..Sources::default() };
    load(&sources).map(|loaded| loaded.settings).map_err(|invalid| invalid.to_string())
}

#[test]
fn alone_a_server_shares_nothing() {
    let settings = read("[cluster]\ncapacity = 7\n[redis]\nprefix = 'x'").unwrap();
    assert!(settings.shared.is_none());
    assert_eq!(settings.place.capacity, 7);
}

#[test]
fn three_addresses_make_it_one_of_several() {
    let text = format!("{THREE}\npassword_file = 'x.secret'");
    let settings = read(&text.replace("'a:1,b'", "['a:1', 'b']")).unwrap();
    let shared = settings.shared.as_ref().unwrap();
    assert_eq!(shared.zookeeper.servers, [Box::from("a:1"), Box::from("b")]);
    assert_eq!((&*shared.zookeeper.path, shared.zookeeper.session_timeout_ms), ("/xpush", 6_000));
    assert_eq!(shared.redis.urls[0].reveal(), "redis://:hunter2@a");
    assert_eq!(shared.mongodb.password.as_ref().unwrap().reveal(), "a file's secret of 32 bytes or more");
    assert!(!format!("{settings:?}").contains("hunter2"), "secrets are not shown");
}

#[test]
fn what_cannot_work_together_is_refused() {
    let with = |lines: &str| read(&format!("{}\n{lines}", THREE.replace("'a:1,b'", "'a'"))).unwrap_err();
    for (said, complaint) in [
        (read("[redis]\nurl = 'redis://a'"), "x.toml:2: `redis.url` makes this server one of several"),
        (read("[zookeeper]\nservers = []"), "x.toml:2: `zookeeper.servers` makes this server one of several"),
        (read("[zookeeper]\npath = 'xpush'"), "x.toml:2: `zookeeper.path` must be a path"),
        (read("[zookeeper]\npath = '/a/../b'"), "x.toml:2: `zookeeper.path` must be a path"),
        (
            read("[zookeeper]\nuser = 'ann'"),
            "x.toml:2: `zookeeper.user` needs `zookeeper.password_file` beside it",
        ),
        (
            read("[zookeeper]\nsession_timeout = '1s'"),
            "x.toml:2: `zookeeper.session_timeout` is 1s, but must be at least 2s",
        ),
        (read("[cluster]\nname = '../etc'"), "x.toml:2: `cluster.name` must be 1 to 64 of"),
        (read("[cluster]\npeer = 'http://a'"), "x.toml:2: `cluster.peer` must be HOST:PORT"),
        (read("[cluster]\npeer = 'ftp://a:1'"), "x.toml:2: `cluster.peer` must be HOST:PORT"),
        (read("[cluster]\npeer_name = 'a:1'"), "x.toml:2: `cluster.peer_name` must be a host's name"),
        (read("[cluster]\npeer_ca = ''"), "x.toml:2: `cluster.peer_ca` must name a file"),
        (read("[cluster]\ncapacity = 0"), "x.toml:2: `cluster.capacity` is 0, but must be at least 1"),
        (Err(with("database = ''")), "x.toml:7: `mongodb.database` must not be empty"),
    ] {
        let found = said.unwrap_err();
        assert!(found.lines().any(|line| line.starts_with(complaint)), "{complaint}\n{found}");
        assert!(!found.contains("hunter2"), "secrets are not quoted: {found}");
    }
    let secret = read("[mongodb]\nurl = 7\n[redis]\nurl = [8]").unwrap_err();
    assert!(
        secret.contains("`mongodb.url` must be a string") && secret.contains("`redis.url` must be a string")
    );
}

#[test]
fn servers_reach_each_other_as_clients_reach_them_unless_it_is_said_otherwise() {
    let roles = xpush_core::ports::cluster::Roles::default();
    let three = THREE.replace("'a:1,b'", "'a'");
    for (lines, peer) in [
        ("", ("127.0.0.1:7", false)),
        ("[tls]\ncertificate = 'a'\nkey = 'b'", ("127.0.0.1:7", true)),
        ("[cluster]\npeer = 'push-1:8'", ("push-1:8", false)),
        ("[cluster]\npeer = 'push-1:8'\n[tls]\ncertificate = 'a'\nkey = 'b'", ("push-1:8", true)),
        ("[cluster]\npeer = 'http://push-1:8'\n[tls]\ncertificate = 'a'\nkey = 'b'", ("push-1:8", false)),
        ("[cluster]\npeer = 'https://push-1:8'", ("push-1:8", true)),
    ] {
        let settings = from_file(&format!("{three}\n{lines}")).unwrap();
        let member = settings.member(NodeId::new("n").unwrap(), roles, 1, 7, 0);
        assert_eq!((member.peer.as_deref(), member.peer_tls), (Some(peer.0), peer.1), "{lines}");
        assert_eq!(member.check(), Ok(()));
    }
}
