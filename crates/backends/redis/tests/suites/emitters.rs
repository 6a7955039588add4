//! What `@socket.io/redis-emitter` writes, on a real server.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use xpush_core::App;
use xpush_redis::emitter::{Emission, EmissionRefused, Emitters, Listening};
use xpush_redis::{Options, redis};
use xpush_testkit::service::redis::{Redis, RedisCluster};
use xpush_testkit::service::wait_until;

/// `io.to("chat:a").emit("news", { text: "안녕", n: 1, raw: Buffer.from([1, 2]) })`, as @socket.io/redis-emitter 5.1.0 wrote it.
const NEWS: &[u8] = include_bytes!("emitter/news.bin");

fn listen(urls: &[String]) -> (Emitters, Arc<Mutex<Vec<Emission>>>, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let take = {
        let taken = taken.clone();
        Arc::new(move |emission: Emission| {
            if emission.channel.name.as_str().starts_with("kept:") {
                return Err(EmissionRefused::Channel);
            }
            taken.lock().expect("a list").push(emission);
            Ok(())
        })
    };
    let listening =
        Listening { key: "socket.io".into(), app: App::new("demo").expect("an app"), max_bytes: 100_000 };
    let options = Options::new(urls, None).expect("good options");
    let emitters = Emitters::listen(options, listening, take, runtime.handle()).expect("good options");
    (emitters, taken, runtime)
}

/// Publishes until somebody hears it.
fn emit(url: &str, channel: &str, message: &[u8]) {
    let client = redis::Client::open(url).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    wait_until("somebody hears emitters", || {
        let heard: i64 =
            redis::cmd("PUBLISH").arg(channel).arg(message).query(&mut connection).expect("redis");
        heard > 0
    });
}

#[test]
fn what_an_emitter_writes_is_a_publication() {
    let server = Redis::start(&[]);
    let (emitters, taken, _runtime) = listen(&[server.url()]);
    emit(&server.url(), "socket.io#/#chat:a#", NEWS);
    wait_until("it comes", || !taken.lock().unwrap().is_empty());
    let emission = taken.lock().unwrap().remove(0);
    assert_eq!((emission.channel.app.as_str(), emission.channel.name.as_str()), ("demo", "chat:a"));
    assert_eq!(emission.event.as_str(), "news");
    assert_eq!(emission.payload.json, r#"{"text":"안녕","n":1,"raw":{"_placeholder":true,"num":0}}"#);
    assert_eq!(emission.payload.attachments, [&[1_u8, 2][..]]);
    emit(
        &server.url(),
        "socket.io-request#/#",
        br#"{"type":4,"opts":{"rooms":[],"except":[]},"close":true}"#,
    );
    wait_until("the request is refused", || emitters.counters().refused.load(Ordering::Relaxed) == 1);
    assert_eq!(emitters.counters().taken.load(Ordering::Relaxed), 1);
}

#[test]
fn a_server_that_dies_is_listened_to_again() {
    let mut server = Redis::start(&[]);
    let (_emitters, taken, _runtime) = listen(&[server.url()]);
    emit(&server.url(), "socket.io#/#", NEWS);
    wait_until("it comes", || taken.lock().unwrap().len() == 1);
    server.restart();
    emit(&server.url(), "socket.io#/#", NEWS);
    wait_until("it comes again", || taken.lock().unwrap().len() == 2);
}

#[test]
fn in_a_cluster_any_node_will_do() {
    let cluster = RedisCluster::start(3, 0);
    let (_emitters, taken, _runtime) = listen(&cluster.urls()[..2]);
    // Wait on the node that is listened to, then emit by another one.
    emit(&cluster.nodes[0].url(), "socket.io#/#chat:a#", NEWS);
    wait_until("it comes", || !taken.lock().unwrap().is_empty());
    let before = taken.lock().unwrap().len();
    let sent = cluster.nodes[2].url();
    let client = redis::Client::open(sent).unwrap();
    let mut connection = client.get_connection().unwrap();
    let _: i64 = redis::cmd("PUBLISH").arg("socket.io#/#chat:a#").arg(NEWS).query(&mut connection).unwrap();
    wait_until("it comes from elsewhere", || taken.lock().unwrap().len() > before);
}
