//! Two real nodes on one machine, each behind a port of its own, and clients whose every request goes to the other one.

#![allow(clippy::unwrap_used)]

mod world;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use xpush_core::App;
use xpush_core::ports::access::Decided;
use xpush_core::ports::backend::{Census, Everywhere};

use world::{Polling, World, posted};

#[test]
fn round_robin_in_front_of_polling() {
    let world = World::new(2);
    let mut clients = [Polling::open(&world, 0), Polling::open(&world, 1)];
    for client in &mut clients {
        let ok = client.call("subscribe", &json!({"channel": "chat:a"}));
        assert_eq!(ok["channel"], "chat:a");
    }
    for number in 0..20_u64 {
        let [one, two] = &mut clients;
        let publisher = if number % 2 == 0 { &mut *one } else { &mut *two };
        let ok = publisher.call("publish", &json!({"channel": "chat:a", "data": number}));
        assert_eq!(ok["seq"], number + 1);
        for client in &mut clients {
            let message = client.push("message");
            assert_eq!((&message["data"], &message["seq"]), (&json!(number), &json!(number + 1)));
        }
    }
    for node in &world.nodes {
        assert!(world::counter(node, "xpush_relayed_total") > 5);
    }
}

#[test]
fn a_poll_that_is_given_up_takes_no_message_along_wherever_it_hung() {
    let world = World::new(2);
    let mut writer = Polling::open(&world, 0);
    let mut arrives = |node: usize| {
        let mut reader = Polling::open(&world, 0);
        reader.call("subscribe", &json!({"channel": "chat:a"}));
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", reader.sid);
        world::give_up(world.addresses[node], &path);
        let first = writer.call("publish", &json!({"channel": "chat:a", "data": 1}))["seq"].clone();
        // When these are published, that one was delivered long ago.
        (0..3).for_each(|_| drop(writer.call("publish", &json!({"channel": "chat:a", "data": 2}))));
        posted(&world, 0, &reader.sid, r#"429["ping",{}]"#);
        let (status, body) = world::get(world.addresses[node], &path);
        status == 200 && body.contains(&format!("\"seq\":{first},"))
    };
    for node in [0, 1] {
        // The session may not have been told yet.
        let begun = std::time::Instant::now();
        while !arrives(node) {
            assert!(begun.elapsed() < world::PATIENCE, "by node {node}");
        }
    }
}

/// What comes of something that a node is asked for.
fn told<T: Send + 'static>(start: impl FnOnce(Decided<T>)) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    start(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv_timeout(world::PATIENCE).unwrap().unwrap()
}

/// Asks all until none but these has not answered: a server that is well may be late.
fn settled<T: Send + 'static>(missing: &[&str], ask: impl Fn(Decided<Everywhere<T>>)) -> T {
    let begun = Instant::now();
    loop {
        let all = told(&ask);
        if all.missing.iter().map(|name| &**name).eq(missing.iter().copied()) {
            return all.told;
        }
        assert!(begun.elapsed() < world::PATIENCE, "{:?} do not answer", all.missing);
    }
}

#[test]
fn whoever_asks_one_server_is_told_of_all_and_of_whom_it_could_not_reach() {
    let world = World::new(2);
    let mut clients = [0, 0, 1].map(|node| Polling::open(&world, node));
    for (client, channels) in
        clients.iter_mut().zip([&["chat:a", "chat:c"][..], &["chat:b"], &["chat:b", "chat:c"]])
    {
        for channel in channels {
            client.call("subscribe", &json!({"channel": channel}));
        }
    }
    let app = App::new("demo").unwrap();
    let live = |node: usize, after, limit, missing: &[&str]| {
        let backend = world.nodes[node].backend();
        let live = settled(missing, |done| backend.live(&app, "chat:", after, limit, done));
        live.into_iter().map(|live| (live.channel.to_string(), live.subscribers)).collect::<Vec<_>>()
    };
    let named = |all: &[(&str, u64)]| {
        all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>()
    };
    let all = named(&[("chat:a", 1), ("chat:b", 2), ("chat:c", 2)]);
    for node in [0, 1] {
        assert_eq!(live(node, None, 9, &[]), all);
        assert_eq!(live(node, Some("chat:a"), 1, &[]), named(&[("chat:b", 2)]));
    }
    let census = |node: usize, missing: &[&str]| {
        let backend = world.nodes[node].backend();
        let census: Vec<Census> = settled(missing, |done| backend.census(vec![app.clone()], done));
        census.iter().map(|one| (one.name.to_string(), one.apps[0].connections)).collect::<Vec<_>>()
    };
    let crowds = named(&[("n0", 2), ("n1", 1)]);
    for node in [0, 1] {
        assert_eq!(census(node, &[]), crowds);
    }
    let mute = world.mute("n9");
    assert_eq!(census(0, &["n9"]), crowds);
    assert_eq!(live(0, None, 9, &["n9"]), all);
    drop(mute);
    assert_eq!(census(0, &[]), crowds);
}

#[test]
fn an_upgrade_on_another_node_is_a_tunnel() {
    let world = World::new(2);
    let mut client = Polling::open(&world, 0);
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", client.sid);
    let mut socket = world.websocket(1, &path);
    socket.send(Message::text("2probe")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("3probe"));
    // The poll that hangs ends, wherever it hangs.
    client.poll();
    socket.send(Message::text("5")).unwrap();
    // Larger than any buffer on the way, in both directions.
    let data = "x".repeat(900_000);
    let command = json!(["publish", {"channel": "chat:a", "data": data}]);
    socket.send(Message::text(r#"427["subscribe",{"channel":"chat:a"}]"#)).unwrap();
    socket.send(Message::text(format!("428{command}"))).unwrap();
    let (mut acks, mut messages) = (0, 0);
    while acks < 2 || messages < 1 {
        let Message::Text(packet) = socket.read().unwrap() else { panic!("text") };
        acks += usize::from(packet.starts_with("437") || packet.starts_with("438"));
        if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            if event[0] == "message" {
                assert_eq!(event[1]["data"], data.as_str());
                messages += 1;
            }
        }
    }
    socket.close(None).unwrap();
    world.wait_until(|world| world.nodes[0].connections() == 0);
}

#[test]
fn a_node_that_drains_ends_its_tunnels_and_their_clients_go_on_elsewhere() {
    let world = World::new(2);
    let client = Polling::open(&world, 0);
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", client.sid);
    let mut socket = world.websocket(1, &path);
    socket.send(Message::text("2probe")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("3probe"));
    socket.send(Message::text("5")).unwrap();
    let node = world.nodes[1].clone();
    let drained = world.runtime.spawn(async move { node.drain(Duration::from_secs(50)).await });
    while socket.read().is_ok() {}
    world.runtime.block_on(drained).unwrap();
    // The session's node has seen its client go, and takes it again.
    world.wait_until(|world| world.nodes[0].connections() == 0);
    assert_eq!(world::get(world.addresses[0], "/socket.io/?EIO=4&transport=polling").0, 200);
}

#[test]
fn what_is_asked_of_a_node_that_is_gone_is_refused_at_once() {
    let world = World::new(2);
    let client = Polling::open(&world, 0);
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", client.sid);
    let begun = std::time::Instant::now();
    let before = world::counter(&world.nodes[1], "xpush_relayed_total");
    let hanging = std::thread::spawn({
        let (address, path) = (world.addresses[1], path.clone());
        move || world::get(address, &path)
    });
    world.wait_until(|world| world::counter(&world.nodes[1], "xpush_relayed_total") > before);
    world.vanish(0);
    let unknown = (400, r#"{"code":1,"message":"Session ID unknown"}"#.to_owned());
    assert_eq!(hanging.join().unwrap(), unknown);
    assert_eq!(world::get(world.addresses[1], &path), unknown);
    assert!(begun.elapsed() < Duration::from_secs(20), "not by the poll's own time");
}

#[test]
fn nobody_else_can_say_that_a_request_was_relayed_and_none_goes_round() {
    let world = World::new(2);
    let client = Polling::open(&world, 0);
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", client.sid);
    let relayed = || world::counter(&world.nodes[1], "xpush_relayed_total");
    let before = relayed();
    let forged = "x-xpush-relay: 127.0.0.1;AAAA\r\n";
    let (status, body) = world::request(world.addresses[1], "GET", &path, forged, "");
    assert_eq!((status, body.contains("Session ID unknown")), (400, true), "{body}");
    assert_eq!(relayed(), before);
}

#[test]
fn a_body_that_is_too_large_is_refused_on_the_way() {
    let world = World::new(2);
    let client = Polling::open(&world, 0);
    let body = format!(r#"42["publish",{{"channel":"chat:a","data":"{}"}}]"#, "x".repeat(1_100_000));
    assert_eq!(posted(&world, 1, &client.sid, &body).0, 413);
}

#[test]
fn clients_that_can_are_asked_to_go_where_their_channel_is_assigned() {
    let world = World::new(2);
    let url = world.url(1);
    world.nodes[0].assign_by(std::sync::Arc::new(move |channel| {
        (channel.name.as_str() == "chat:a").then(|| url.as_str().into())
    }));
    let mut able = Polling::open_with(&world, 0, r#"{"moves":"1"}"#);
    let mut stock = Polling::open(&world, 0);
    let mut settled = Polling::open_with(&world, 0, r#"{"moves":"1"}"#);
    for (client, channel) in [(&mut able, "chat:a"), (&mut stock, "chat:a"), (&mut settled, "chat:b")] {
        client.call("subscribe", &json!({"channel": channel}));
    }
    world.nodes[0].rebalance(Duration::from_millis(50));
    let moved = able.push("moved");
    assert_eq!(moved["url"], world.url(1));
    assert!(moved["within_ms"].as_u64().unwrap() > 0);
    // The others stay, and hear nothing.
    for client in [&mut stock, &mut settled] {
        client.call("ping", &json!({}));
        assert!(client.pushes("moved").is_empty());
    }
    assert_eq!(world.nodes[0].connections(), 3);
}

#[test]
fn a_drain_tells_everybody_where_to_go_and_ends_when_they_have() {
    let world = World::new(2);
    let url = world.url(1);
    world.nodes[0].assign_by(std::sync::Arc::new(move |_| Some(url.as_str().into())));
    let mut clients: Vec<_> = (0..20).map(|_| Polling::open(&world, 0)).collect();
    for client in &mut clients {
        client.call("subscribe", &json!({"channel": "chat:a"}));
    }
    let node = world.nodes[0].clone();
    let drained = world.runtime.spawn(async move { node.drain(Duration::from_secs(30)).await });
    for client in &mut clients {
        assert_eq!(client.push("moved")["url"], world.url(1));
        assert_eq!(client.push("closing")["error"]["code"], "draining");
    }
    world.runtime.block_on(drained).unwrap();
    assert_eq!(world.nodes[0].connections(), 0);
}
