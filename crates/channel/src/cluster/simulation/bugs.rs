//! Bugs that are planted into the servers, each of which some seed finds: what the simulation says is worth that much.

use std::panic::{self, AssertUnwindSafe};

use super::sail;
use crate::planted::{Bug, trial};

/// Each with the words by which it is found, so that it is not found by some other bug's symptom alone; and how many seeds that may take.
const BUGS: [(Bug, &[&str], u64); 12] = [
    (Bug::NothingReadAfterReconnect, &["the bus is back"], 30),
    (Bug::HeadsNotCompared, &["in the end"], 30),
    (Bug::HolesPassedOver, &["came where"], 20),
    (Bug::OthersGoAhead, &["went ahead of what was sent with it and failed"], 20),
    (Bug::LateAnswerTaken, &["is broken"], 30),
    (Bug::OldForwardTaken, &["is broken"], 100),
    (Bug::DoubtfulRefused, &["was refused each time, and the store has it"], 300),
    (Bug::TailForgotten, &["recovered from"], 20),
    (Bug::AlwaysRecovered, &["recovered"], 20),
    (Bug::GhostsStay, &["who is in"], 20),
    (Bug::NotRestated, &["who is in"], 20),
    (Bug::DrainedKept, &["a server that drains is empty in time"], 30),
];

/// How one seed ends.
fn found(bug: Bug, seed: u64) -> Option<String> {
    trial::plant(Some(bug));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| sail(seed)));
    trial::plant(None);
    let panic = outcome.err()?;
    let words = panic.downcast_ref::<String>().cloned();
    Some(words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned())).unwrap_or_default())
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, symptoms, seeds) in BUGS {
        let mut heard = Vec::new();
        let is_it = |words: &String| symptoms.iter().any(|symptom| words.contains(symptom));
        let seed = (0..seeds).find(|seed| {
            let Some(words) = found(bug, *seed) else { return false };
            let is_it = is_it(&words);
            heard.push(words);
            is_it
        });
        match seed {
            Some(seed) => {
                println!("{bug:?}: seed {seed}: {}", heard.last().map_or("", |words| first_line(words)))
            }
            None => missed.push((bug, heard)),
        }
    }
    assert!(missed.is_empty(), "not found, with what was found instead: {missed:?}");
}

fn first_line(words: &str) -> &str {
    words.lines().next().unwrap_or_default()
}
