//! Records that somebody else has written.

use zookeeper_client::{Acls, Client, CreateMode, CreateOptions};

use xpush_core::ports::Failure;
use xpush_core::ports::cluster::{Cluster, Standing};
use xpush_testkit::sample::{name, node, server};
use xpush_testkit::service::zookeeper::ZooKeeper;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::cluster::{ids, join, ring};
use xpush_zookeeper::Options;

use super::{open, runtime, watch};

const DURABLE: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

#[test]
fn records_that_are_no_good_are_refused_and_the_old_ones_kept() {
    let server_ = ZooKeeper::start(&[]);
    let options = Options { root: "/".to_owned(), ..Options::new(server_.hosts()) };
    let handle = open(&options);
    let member = join(&handle, server("a")).unwrap();
    let observer = watch(&handle);
    handle.campaign(&node("a"));
    member.until("its election", |view| view.planner.is_some());
    let term = member.last().planner.unwrap();
    answer(|done| handle.publish_ring(ring(1, term, 7).into(), done)).unwrap();
    answer(|done| handle.set_draining(&name("x"), true, done)).unwrap();
    member.until("all", |view| view.ring.is_some() && !view.draining.is_empty());
    let good = member.last();

    let vandal = runtime().block_on(Client::connect(&server_.hosts())).unwrap();
    let write = |path: &str, data: &str| {
        runtime().block_on(async {
            if vandal.create(path, data.as_bytes(), &DURABLE).await.is_err() {
                vandal.set_data(path, data.as_bytes(), None).await.unwrap();
            }
        });
    };
    let text = String::from_utf8(ring(2, term, 7).encode().to_vec()).unwrap();
    let weight = |weight: &str| text.replace("node a 7", &format!("node a {weight}"));
    let mut refused = 0;
    for (path, data) in [
        ("/cluster/ring", "garbage".to_owned()),
        ("/cluster/ring", String::new()),
        ("/cluster/ring", weight("NaN")),
        ("/cluster/ring", weight("-1")),
        ("/cluster/ring", weight("1e308")),
        ("/cluster/ring", text.replace("node a", "node ../a")),
        ("/cluster/ring", text.replace("xpush-ring 1", "xpush-ring 2")),
        ("/cluster/members/a", "garbage".to_owned()),
        ("/cluster/members/b", "{}".to_owned()),
        ("/cluster/members/b", "{\"v\":2}".to_owned()),
        ("/cluster/members/.b", "{}".to_owned()),
        ("/cluster/members/방", "{}".to_owned()),
        ("/cluster/draining/a b", String::new()),
        ("/cluster/settings/a b", String::new()),
        ("/cluster/settings/a", "x".repeat(65_537)),
        ("/cluster/loads", "{\"v\":1,\"loads\":{\"a\":[-1,0,0]}}".to_owned()),
        ("/cluster/loads", "{\"v\":1,\"loads\":{\"a\":[1e308,0,0]}}".to_owned()),
    ] {
        write(path, &data);
        refused += 1;
        for views in [&member, &observer] {
            views.until(&format!("an alarm at {path} {data:?}"), |view| view.refused >= refused);
        }
        let last = member.last();
        assert_eq!((last.refused, last.standing), (refused, Standing::Live), "{path} {data:?}");
        assert_eq!((&last.nodes, &last.ring, &last.draining), (&good.nodes, &good.ring, &good.draining));
    }
    assert_eq!(observer.last().ring, good.ring);

    // A name that garbage holds is nobody's; when it has gone, it is free.
    let taken = join(&handle, server("b")).expect_err("is taken");
    assert_eq!(taken.kind, Failure::Conflict);
    runtime().block_on(vandal.delete("/cluster/members/b", None)).unwrap();
    join(&handle, server("b")).unwrap().settle(&["a", "b"]);

    // A newer release's ring is not written over; garbage is, by the ring that follows the last good one.
    write("/cluster/ring", &text.replace("xpush-ring 1", "xpush-ring 2"));
    let newer =
        answer(|done| handle.publish_ring(ring(2, term, 9).into(), done)).expect_err("a newer release");
    assert_eq!(newer.kind, Failure::Conflict);
    write("/cluster/ring", "garbage");
    assert!(answer(|done| handle.publish_ring(ring(3, term, 9).into(), done)).is_err());
    answer(|done| handle.publish_ring(ring(2, term, 9).into(), done)).unwrap();
    member.until("the next ring", |view| view.ring.as_deref() == Some(&ring(2, term, 9)));
    assert_eq!(ids(&member.last()), ["a", "b"]);
}
