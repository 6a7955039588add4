//! Many clients at three servers: who was on a dead server leaves once, and a rolling restart is no event. `XPUSH_CROWD` says how many; `cargo xtask soak` has 2,000.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use xpush_testkit::fleet::{Connection, Said};
use xpush_testkit::service::PATIENCE;

use crate::times;
use crate::witness::Witness;
use crate::world::{World, members, timed};

/// Clients of one channel.
const TOGETHER: usize = 20;
/// Between two publications.
const PACE: Duration = Duration::from_millis(50);
/// What is said last in each channel.
const LAST: &str = "the last word";
/// What a client's thread needs.
const STACK: usize = 512 * 1024;

fn crowd(usual: usize) -> usize {
    std::env::var("XPUSH_CROWD").map_or(usual, |many| many.parse().unwrap())
}

fn start<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().stack_size(STACK).spawn(run).unwrap()
}

#[test]
fn of_many_users_of_a_killed_server_each_leaves_once() {
    let mut world = World::start("crowd", 3);
    let many = crowd(60);
    let witness = Witness::at(&world.servers[0], "who looks on", &["seen:crowd"]);
    let names: Vec<String> = (0..many).map(|number| format!("user-{number:04}")).collect();
    let mut there = Vec::new();
    timed(&format!("{many} users came"), || {
        for (number, name) in names.iter().enumerate() {
            let mut connection = world.servers[number % 3].connect_as(name).unwrap();
            connection.ask("subscribe", json!({"channel": "seen:crowd"})).unwrap();
            // It answers heartbeats until the server is gone.
            there.push(start(move || while connection.hear().is_ok() {}));
        }
    });
    let of = |field: &'static str, heard: &[Value]| -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for push in heard.iter().filter(|push| push["channel"] == "seen:crowd") {
            for user in push[field].as_array().into_iter().flatten() {
                *counts.entry(user["user"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        counts
    };
    let count = |world: &World| {
        let asked = world.servers[0].connect("who asks").ask("presence", json!({"channel": "seen:crowd"}));
        asked.unwrap()["count"].as_u64().unwrap()
    };
    assert_eq!(count(&world), many as u64 + 1);

    world.servers[2].kill();
    let gone: Vec<&String> = names.iter().skip(2).step_by(3).collect();
    let lasts = *gone.last().unwrap();
    timed(&format!("{} users of a killed server have left", gone.len()), || {
        witness.until_all("everybody of the killed server has left", |heard| {
            let left = of("left", heard);
            gone.iter().all(|user| left.contains_key(*user))
        });
    });
    assert_eq!(count(&world), (many - gone.len()) as u64 + 1, "{lasts} was the last one");
    // Once more than one grace time: whoever is told twice is told by then.
    let again = Witness::at(&world.servers[1], "who comes later", &["seen:crowd"]);
    witness.until("another one comes", 0, |push| {
        of("joined", std::slice::from_ref(push)).len() == 1
            && push["joined"][0]["user"].as_str().is_some_and(|user| user.starts_with("g-"))
    });
    drop(again);
    let left = of("left", &witness.heard());
    let told: Vec<_> = left.iter().filter(|(user, _)| user.starts_with("user-")).collect();
    assert_eq!(told.len(), gone.len(), "nobody else has left");
    assert!(told.iter().all(|(user, times)| **times == 1 && gone.contains(user)), "{told:?}");
    world.servers[..2].iter_mut().for_each(crate::world::Server::kill);
    there.into_iter().for_each(|client| client.join().unwrap());
    world.gone();
}

/// What a client has noticed.
#[derive(Default)]
struct Ride {
    delivered: u64,
    lost: u64,
    doubled: u64,
    /// Connections that ended before another one had taken their place.
    cut: u64,
    moved: u64,
    /// By restart, how late the latest message was, in ms.
    late: HashMap<usize, u64>,
}

/// A client that goes elsewhere when it is told to, and resumes.
struct Rider {
    secret: String,
    channel: String,
    addresses: Vec<SocketAddr>,
    at: usize,
    /// The position that it has reached.
    since: Option<(String, u64)>,
    restart: Arc<AtomicUsize>,
    ride: Ride,
}

impl Rider {
    /// Until the last word; when nothing is heard for long, what is missing is lost.
    fn run(mut self, first: Connection) -> Ride {
        let deadline = Instant::now() + 10 * PATIENCE;
        let mut connection = Some(first);
        while Instant::now() < deadline {
            let Some(open) = connection.take().or_else(|| self.open().ok()) else {
                self.at += 1;
                thread::yield_now();
                continue;
            };
            match self.listen(open) {
                Ok(Some(next)) => connection = Some(next),
                Ok(None) => return self.ride,
                Err(_) => {
                    self.ride.cut += 1;
                    self.at += 1;
                }
            }
        }
        self.ride.lost += 1;
        self.ride
    }

    fn open(&mut self) -> io::Result<Connection> {
        let address = self.addresses[self.at % self.addresses.len()];
        let mut connection = Connection::open_with(address, &self.secret, PATIENCE, json!({"moves": "1"}))?;
        let mut fields = json!({"channel": self.channel});
        if let Some((epoch, seq)) = &self.since {
            fields["since"] = json!({"epoch": epoch, "seq": seq});
        }
        let answer = connection.ask("subscribe", fields)?;
        let seq = answer["seq"].as_u64().unwrap();
        self.since.get_or_insert_with(|| (answer["epoch"].as_str().unwrap().to_owned(), seq));
        Ok(connection)
    }

    /// `None`: the last word was said. `Some`: the connection that takes this one's place.
    fn listen(&mut self, mut connection: Connection) -> io::Result<Option<Connection>> {
        loop {
            let Said::Push(push) = connection.hear()? else { continue };
            if push["push"] == "moved" {
                let leaves = self.at;
                // The next server first; this one is heard until its answer.
                for _ in 1..self.addresses.len() {
                    self.at += 1;
                    if let Ok(next) = self.open() {
                        self.ride.moved += 1;
                        return Ok(Some(next));
                    }
                }
                self.at = leaves;
            } else if push["push"] == "message" && self.takes(&push) {
                return Ok(None);
            }
        }
    }

    /// Whether it is the last word.
    fn takes(&mut self, push: &Value) -> bool {
        let seq = push["seq"].as_u64().unwrap();
        let Some((_, reached)) = &mut self.since else { return false };
        self.ride.delivered += 1;
        match seq.checked_sub(*reached + 1) {
            Some(skipped) => {
                self.ride.lost += skipped;
                *reached = seq;
            }
            None => self.ride.doubled += 1,
        }
        let late = now_ms().saturating_sub(push["at"].as_u64().unwrap());
        let worst = self.ride.late.entry(self.restart.load(Ordering::Relaxed)).or_default();
        *worst = late.max(*worst);
        push["data"] == LAST
    }
}

#[allow(clippy::disallowed_methods, reason = "compared with what servers say, by the same machine's clock")]
fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Says something every [`PACE`] in one channel after the other, each thing until it is acked, and at last the last word in all. How much.
fn speak(addresses: &[SocketAddr], channels: &[String], stop: &mpsc::Receiver<()>) -> u64 {
    let (mut at, mut count, mut connection) = (0, 0_u64, None);
    let mut say = |channel: &str, data: &str| {
        count += 1;
        let id = format!("m{count}");
        loop {
            let open = connection.take().or_else(|| {
                at += 1;
                Connection::open_for(addresses[at % addresses.len()], "the secret of the speaker", PATIENCE)
                    .ok()
            });
            let Some(mut open) = open else { continue };
            let fields = json!({"channel": channel, "data": data, "message_id": id});
            if open.ask("publish", fields).is_ok() {
                connection = Some(open);
                return count;
            }
        }
    };
    for channel in channels.iter().cycle() {
        if stop.recv_timeout(PACE) != Err(mpsc::RecvTimeoutError::Timeout) {
            break;
        }
        say(channel, "something");
    }
    channels.iter().fold(0, |_, channel| say(channel, LAST))
}

#[test]
fn rolling_restarts_lose_nothing_and_delay_nobody() {
    let mut world = World::start("rolling", 3);
    let views = world.views();
    let many = crowd(60);
    let channels: Vec<String> = (0..many.div_ceil(TOGETHER)).map(|number| format!("kept:{number}")).collect();
    let restart = Arc::new(AtomicUsize::new(0));
    let riders: Vec<JoinHandle<Ride>> = (0..many)
        .map(|number| {
            let mut rider = Rider {
                secret: format!("the secret of rider {number}"),
                channel: channels[number % channels.len()].clone(),
                addresses: world.addresses(),
                at: number % 3,
                since: None,
                restart: restart.clone(),
                ride: Ride::default(),
            };
            let open = rider.open().unwrap();
            start(move || rider.run(open))
        })
        .collect();
    let (stop, stopped) = mpsc::channel();
    let speaker = {
        let (addresses, channels) = (world.addresses(), channels.clone());
        thread::spawn(move || speak(&addresses, &channels, &stopped))
    };
    for number in 0..times(3) {
        let server = &mut world.servers[number % 3];
        let name = server.name.clone();
        restart.store(number + 1, Ordering::Relaxed);
        timed("a server ended", || server.end());
        views.until("one less", |view| !members(view).contains(&name));
        timed("a server came back", || server.launch().unwrap());
        world.settle();
    }
    stop.send(()).unwrap();
    let said = speaker.join().unwrap();
    let rides: Vec<Ride> = riders.into_iter().map(|rider| rider.join().unwrap()).collect();
    let sum = |field: fn(&Ride) -> u64| rides.iter().map(field).sum::<u64>();
    let mut late: Vec<u64> = rides
        .iter()
        .flat_map(|ride| ride.late.iter().filter(|(at, _)| **at > 0))
        .map(|(_, ms)| *ms)
        .collect();
    late.sort_unstable();
    let share = |percent: usize| {
        late.get((late.len() * percent / 100).min(late.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    println!(
        "{} restarts, {many} clients, {said} said, {} delivered, {} lost, {} doubled, {} moved, {} cut; ms of the latest message in a restart: p50 {}, p99 {}, worst {}",
        times(3),
        sum(|ride| ride.delivered),
        sum(|ride| ride.lost),
        sum(|ride| ride.doubled),
        sum(|ride| ride.moved),
        sum(|ride| ride.cut),
        share(50),
        share(99),
        share(100),
    );
    assert_eq!((sum(|ride| ride.lost), sum(|ride| ride.doubled)), (0, 0));
    assert!(sum(|ride| ride.moved) > 0);
    world.gone();
}
