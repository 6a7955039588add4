//! The scenarios against a server that keeps its promises, and one that does not.

use crate::{Args, Task, ledger::Faults, limit, report::Report};
use clap::Parser;
use std::{net::TcpListener, thread};
use tungstenite::{Message, WebSocket, accept};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: Args,
}

/// Runs one scenario, as by the command line, against the server at `port`; the server is in this process.
fn run(port: u16, words: &str) -> Report {
    run_as("socketio", port, words)
}

fn run_as(dialect: &str, port: u16, words: &str) -> Report {
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let pid = std::process::id().to_string();
    let common = ["--dialect", dialect, "--url", &url, "--server-pid", &pid];
    let words = ["bench"].into_iter().chain(words.split(' ')).chain(common);
    let report = match Cli::parse_from(words).bench.task {
        Task::Idle(scenario) => scenario.run(),
        Task::Fanout(scenario) => scenario.run(),
        Task::Rooms(scenario) => scenario.run(),
        Task::Ack(scenario) => scenario.run(),
        Task::Storm(scenario) => scenario.run(),
        Task::Slow(scenario) => scenario.run(),
        Task::Durable(scenario) => scenario.run(),
        Task::Resume(scenario) => scenario.run(),
        Task::Page(scenario) => scenario.run(),
        Task::Login(scenario) => scenario.run(),
        Task::Api(scenario) => scenario.run(),
        Task::Across(scenario) => scenario.run(),
        Task::Heal(scenario) => scenario.run(),
        Task::Hooks(scenario) => scenario.run(),
        Task::Search(scenario) => scenario.run(),
        Task::Upload(scenario) => scenario.run(),
        Task::Limit(_) => unreachable!("not a scenario"),
    };
    report.expect("the scenario runs")
}

/// Starts the limit server; it lives as long as the test process.
fn limit_server(uncorked: bool) -> u16 {
    let server = limit::Server::bind(([127, 0, 0, 1], 0).into(), uncorked).expect("a free port");
    let port = server.listener.local_addr().expect("bound").port();
    thread::spawn(move || server.run());
    port
}

#[test]
fn nothing_is_wrong_with_the_limit_server() {
    for (uncorked, dialect) in [(false, "socketio"), (true, "socketio"), (false, "xpush")] {
        let port = limit_server(uncorked);
        for (words, arrived) in [
            ("fanout --subscribers 20 --seconds 0.1", None),
            ("fanout --mode saturated --subscribers 20 --seconds 0.1 --payload 300", None),
            ("rooms --rooms 3 --members 4 --rate 500 --seconds 0.1", None),
            ("ack --seconds 0.1", None),
            ("storm --clients 50", Some(50)),
            ("durable --clients 5 --window 4 --seconds 0.1 --disk-seconds 0.01", None),
            ("durable --clients 5 --rate 1000 --seconds 0.1 --disk-seconds 0.01", None),
        ] {
            let report = run_as(dialect, port, words);
            assert!(report.is_good(), "{dialect}: {words}:\n{report}");
            assert!(
                report.deliveries > 0 && arrived.is_none_or(|goal| goal == report.deliveries),
                "{report}"
            );
        }
    }
}

#[test]
fn what_is_published_at_one_place_is_heard_at_others() {
    let port = limit_server(false);
    // One server with three addresses.
    let reader = |host| format!("--reader ws://{host}:{port}/socket.io/?EIO=4&transport=websocket");
    let readers = [reader("127.0.0.1"), reader("localhost")].join(" ");
    let report = run(port, &format!("across {readers} --subscribers 3 --rate 400 --seconds 0.2"));
    assert!(report.is_good() && report.sent == 80 && report.deliveries == 480, "{report}");
    assert!(report.figures["p99 ms across"] > 0.0, "{report}");
}

#[test]
fn a_death_that_nobody_notices_heals_nobody() {
    let (port, other) = (limit_server(false), limit_server(false));
    let mut victim = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    let server = format!("--server ws://127.0.0.1:{other}/socket.io/?EIO=4&transport=websocket");
    let words = format!("heal {server} --clients 5 --patience 0.3 --kill {}", victim.id());
    let report = run(port, &words);
    assert!(!victim.wait().expect("it has ended").success());
    assert_eq!((report.sent, report.deliveries), (0, 0), "{report}");
    assert!(report.failures.iter().any(|failure| failure.contains("nobody was at the server")), "{report}");
}

#[test]
fn idle_connections_are_counted() {
    let report = run(limit_server(false), "idle --first 10 --last 30");
    assert!(report.is_good() && report.deliveries == 30, "{report}");
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_alone() {
    let port = limit_server(false);
    // 36 MB for whoever does not read: kernels hold up to 20 MB of a connection.
    let report = run(port, "slow --subscribers 5 --percent 20 --payload 60000 --rate 400 --seconds 2");
    assert!(report.is_good(), "{report}");
    assert!((report.figures["slow ones cut off"] - 1.0).abs() < f64::EPSILON, "{report}");
}

#[test]
fn a_faulty_server_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let server = thread::spawn(move || serve_badly(&listener));
    let report = run(port, "rooms --rooms 1 --members 1 --rate 100 --seconds 0.2 --patience 0.3");
    let faults = Faults { lost: 1, doubled: 1, misordered: 1, stray: 1, cut: 0 };
    assert_eq!(report.faults, faults, "{report}");
    assert!(!report.is_good());
    server.join().expect("the server came to its end");
}

/// Serves one client that talks to itself: forgets one message, says one twice, turns two around and alters one.
fn serve_badly(listener: &TcpListener) {
    let (stream, _) = listener.accept().expect("a client");
    let mut socket = accept(stream).expect("a WebSocket");
    let say = |socket: &mut WebSocket<_>, text: String| socket.send(Message::text(text)).expect("sent");
    say(&mut socket, r#"0{"sid":"bad"}"#.into());
    let (mut published, mut kept) = (0, None);
    while let Ok(Message::Text(packet)) = socket.read() {
        if packet.as_str() == "40" {
            say(&mut socket, r#"40{"sid":"bad"}"#.into());
            continue;
        }
        let (ack, event) = packet[2..].split_at(packet[2..].find('[').expect("an event"));
        say(&mut socket, format!("43{ack}[]"));
        let Some((_, data)) = event.split_once(r#""data":"#) else { continue };
        let message = format!(r#"42["message",{}]"#, &data[..data.len() - 2]);
        match published {
            3 => {}
            5 => [message.clone(), message].into_iter().for_each(|message| say(&mut socket, message)),
            7 => kept = Some(message),
            9 => {
                say(&mut socket, message.replace("ferry", "fxrry"));
                say(&mut socket, message);
            }
            _ => {
                say(&mut socket, message);
                kept.take().into_iter().for_each(|kept| say(&mut socket, kept));
            }
        }
        published += 1;
    }
}
