//! Apps' back ends are told of every durable message, whichever server dies.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use xpush_testkit::checker::Event;
use xpush_testkit::environment::SeededEntropy;
use xpush_testkit::service::wait_until;

use crate::times;
use crate::world::{World, members, plan, timed};

/// An app's back end that takes everything.
#[derive(Default)]
struct Receiver {
    /// The events' ids, by channel and place, one for each time that it was told of.
    told: Mutex<BTreeMap<(String, u64), Vec<String>>>,
}

impl Receiver {
    fn start() -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Arc::new(Self::default());
        let taking = Arc::clone(&receiver);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let taking = Arc::clone(&taking);
                // A server that was killed has said half of something, perhaps.
                thread::spawn(move || stream.ok().and_then(|stream| taking.take(BufReader::new(stream))));
            }
        });
        (receiver, address)
    }

    /// One request.
    fn take(&self, mut stream: BufReader<std::net::TcpStream>) -> Option<()> {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
            if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = said.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let mut told = self.told.lock().unwrap();
        for event in body["events"].as_array().unwrap() {
            let place = (event["channel"].as_str()?.to_owned(), event["message"]["seq"].as_u64()?);
            told.entry(place).or_default().push(event["id"].as_str()?.to_owned());
        }
        drop(told);
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()
    }
}

#[test]
fn back_ends_are_told_of_every_message_whichever_server_is_killed() {
    let (receiver, address) = Receiver::start();
    let mut world = World::services("hooks");
    for _ in 0..3 {
        let hook = format!(
            "\n[hooks]\nallow_private = true\n\n[[apps.demo.hooks]]\nurl = \"http://{address}/\"\nevents = [\"message\"]\nsecret = \"{}\"\n",
            "x".repeat(32)
        );
        world.add_with(&world.ways(), |config| config + &hook);
        world.servers.last_mut().unwrap().launch().unwrap();
    }
    world.settle();
    let views = world.views();
    let mut entropy = SeededEntropy::new(9);
    let plan = plan(9);
    let channels = plan.channels.clone();
    let fleet = world.embark(&plan);
    for _ in 0..times(4) {
        fleet.journal().wait_for_acks(200).unwrap();
        let victim = usize::try_from(entropy.below(3)).unwrap();
        fleet.journal().note("", Event::Killed);
        world.servers[victim].kill();
        let name = world.servers[victim].name.clone();
        views.until("one less", |view| !members(view).contains(&name));
        // What was in its own outbox comes when it does. Of what was not, others tell.
        fleet.journal().wait_for_acks(100).unwrap();
        world.servers[victim].launch().unwrap();
    }
    world.settle();
    fleet.journal().wait_for_acks(100).unwrap();
    fleet.journal().stop();
    let mut client = world.servers[0].connect("who counts");
    timed("everything was told of", || {
        wait_until("everything is told of", || {
            let told = receiver.told.lock().unwrap();
            channels.iter().all(|channel| {
                let page = json!({"channel": **channel, "limit": 1});
                let head = client.ask("history", page).unwrap()["head"].as_u64().unwrap();
                (1..=head).all(|seq| told.contains_key(&((**channel).to_owned(), seq)))
            })
        });
    });
    let told = receiver.told.lock().unwrap();
    let again: Vec<_> = told.values().filter(|ids| ids.len() > 1).collect();
    println!("told of {} messages, of {} of them more than once", told.len(), again.len());
    assert!(again.iter().all(|ids| ids.iter().all(|id| *id == ids[0])), "by the same id: {again:?}");
    drop(told);
    world.judge(fleet);
}
