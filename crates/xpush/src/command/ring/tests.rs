use clap::Parser;
use serde_json::Value;

use super::*;

/// The command, as it is typed.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    rings: Rings,
}

fn typed(line: &str) -> Result<Rings, String> {
    let words = ["ring", "simulate"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(words).map(|line| line.rings).map_err(|error| error.to_string())
}

fn asked(line: &str) -> String {
    run(&typed(line).unwrap()).unwrap()
}

fn json(line: &str) -> Value {
    serde_json::from_str(&asked(&format!("{line} --json"))).unwrap()
}

#[test]
fn the_classic_falls_with_the_square_root() {
    let study = json("--keys 5000 --points 200");
    // Said so, it is a scenario; alone or as --classic it is the study.
    assert!(study.get("servers").unwrap().is_array());
    let study = json("--classic --keys 5000 --points 200");
    let spread = study["spread"].as_array().unwrap();
    assert_eq!((spread.len(), &spread[200]["points"]), (201, &Value::from(4_000)));
    let at = |points: usize, ring: &str, what: &str| spread[points - 1][ring][what].as_f64().unwrap();
    // √(9 / 11 + 9 / 5,000) and √(9 / 2,001 + 9 / 5,000); a third of the points' part is left with two places.
    for (points, ring, expected) in
        [(1, "classic", 90.5), (200, "classic", 7.9), (1, "xpush", 52.4), (200, "xpush", 5.7)]
    {
        assert!((at(points, ring, "expected_percent") - expected).abs() < 0.1, "{ring} {points}");
        let seen = at(points, ring, "deviation_percent");
        assert!((0.4..1.7).contains(&(seen / expected)), "{ring} {points}: {seen}");
    }
    for band in study["other_fleets"]["tenths"].as_array().unwrap() {
        let points = usize::try_from(band["points"].as_u64().unwrap()).unwrap();
        for ring in ["classic", "xpush"] {
            let edge = |edge: &str| band[ring][edge].as_f64().unwrap();
            let expected = at(points, ring, "expected_percent");
            assert!(
                edge("low_percent") < 1.1 * expected && expected < 1.1 * edge("high_percent"),
                "{ring} {band}"
            );
        }
    }
}

#[test]
fn the_tables_are_for_people() {
    let told = asked("--classic --keys 2000 --points 100");
    assert!(told.starts_with("10 servers, 2000 keys."), "{told}");
    assert!(told.contains("\npoints  classic ring  expected     XPUSH"), "{told}");
    let told = asked("--weights a=1,b=0.5,c=0 --keys 10000 --step leave=a --step join=d:0.5");
    assert!(told.starts_with("3 servers with 4000 points, 10000 channels; after all changes\n"), "{told}");
    assert!(told.contains("a leaves") && told.contains("d joins with 0.5"), "{told}");
    let told = asked("--nodes 100 --keys 10000 --points 10");
    assert!(told.contains("… 60 more\n") && told.contains("node-100"), "{told}");
}

#[test]
fn a_change_moves_its_share_and_nothing_else() {
    let outcome =
        json("--nodes 10 --keys 50000 --step join=x --step weight=node-05:0.25 --step leave=node-03");
    let steps = outcome["changes"].as_array().unwrap();
    assert_eq!(steps.len(), 3);
    for step in steps {
        let ratio = step["moved"].as_f64().unwrap() / step["needed"].as_f64().unwrap();
        assert!((0.85..=1.2).contains(&ratio), "{step}");
        assert_eq!(step["moved_elsewhere"], 0, "{step}");
    }
    let servers = outcome["servers"].as_array().unwrap();
    let channels: u64 = servers.iter().map(|server| server["channels"].as_u64().unwrap()).sum();
    assert_eq!((servers.len(), channels), (10, 50_000));
    let twice = json("--nodes 3 --keys 1000 --step weight=node-1:0.5 --step weight=node-1:1");
    assert_eq!(twice["changes"][0]["moved"], twice["changes"][1]["moved"]);
}

#[test]
fn skewed_clients_are_kept_within_the_bound() {
    let outcome = json("--nodes 10 --keys 5000 --zipf 1.3 --clients 60000");
    let alone = outcome["spread"]["clients_ring_alone"]["most_by_fair"].as_f64().unwrap();
    let assigned = outcome["spread"]["clients_assigned"]["most_by_fair"].as_f64().unwrap();
    assert!(alone > 1.5 && assigned <= 1.25, "{alone} {assigned}");
    let count = |of: &str| {
        let servers = outcome["servers"].as_array().unwrap();
        servers.iter().map(|server| server["clients"][of].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((count("ring_alone"), count("assigned")), (60_000, 60_000));
}

#[test]
fn without_weight_nobody_carries_anything() {
    let outcome = json("--weights a=0,b=0 --keys 100 --zipf 1");
    assert_eq!(outcome["servers"][0]["clients"]["assigned"], 0);
    assert_eq!(json("--weights a=1,b=0 --keys 100 --step leave=a")["changes"][0]["moved"], 100);
}

#[test]
fn what_cannot_be_is_refused() {
    for (line, why) in [
        ("--weights a=NaN", "no weight"),
        ("--weights a=-1", "no weight"),
        ("--weights a=1e308", "no weight"),
        ("--weights a", "NAME=WEIGHT"),
        ("--weights .a=1", "no server's name"),
        ("--nodes 0", "1..=1000"),
        ("--nodes 1001", "1..=1000"),
        ("--points 4001", "1..=4000"),
        ("--keys 0", "1..=100000000"),
        ("--zipf inf", "exponent"),
        ("--step grow=a", "join=NAME"),
        ("--step weight=a", "join=NAME"),
        ("--clients 5", "--zipf"),
        ("--classic --zipf 1", "cannot be used"),
    ] {
        let refused = typed(line).unwrap_err();
        assert!(refused.contains(why), "{line}: {refused}");
    }
    for (line, why) in [
        ("--weights a=1,a=0.5", "two servers have the name a"),
        ("--nodes 2 --step join=node-1", "node-1 is on the ring already"),
        ("--nodes 2 --step leave=x", "x is not on the ring"),
        ("--nodes 1000 --keys 10 --step join=x", "at most 1000 servers"),
        ("--nodes 2 --keys 10 --svg /nowhere/to/be/found.svg", "cannot write /nowhere/to/be/found.svg"),
    ] {
        assert!(run(&typed(line).unwrap()).unwrap_err().contains(why), "{line}");
    }
}

#[test]
fn pictures_stand_alone() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "--classic --keys 500 --points 40",
        "--nodes 12 --keys 5000",
        "--nodes 12 --keys 5000 --zipf 1 --clients 9000 --step weight=node-02:0",
        "--nodes 200 --keys 5000 --points 50 --zipf 1 --clients 9000",
        "--weights a=0 --keys 10",
    ] {
        let file = folder.path().join("picture.svg");
        asked(&format!("{line} --svg {}", file.display()));
        let picture = fs::read_to_string(&file).unwrap();
        assert!(picture.starts_with("<svg xmlns") && picture.ends_with("</svg>\n"), "{line}");
        assert!(picture.contains("prefers-color-scheme:dark") && picture.contains("<title>"), "{line}");
        for broken in ["NaN", "inf", "http://", "https://", "<script"] {
            let rest = picture.replace("http://www.w3.org/2000/svg", "");
            assert!(!rest.contains(broken), "{line}: {broken}");
        }
        // Tags that open also close.
        assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
    }
}

#[test]
fn the_picture_in_the_documents_is_what_the_command_draws() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("classic.svg");
    asked(&format!("--svg {}", file.display()));
    let kept = include_str!("../../../../../docs/placement/spread.svg");
    assert!(
        fs::read_to_string(&file).unwrap() == kept,
        "stale: xpush ring simulate --svg docs/placement/spread.svg"
    );
}
