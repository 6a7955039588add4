use std::path::{Path, PathBuf};

use rusqlite::Connection;
use xpush_core::Kind;
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{channel, draft, draft_with};
use xpush_testkit::suite::answer;

use super::*;
use crate::store::Options;

const HOUR: u64 = 3_600_000;

struct Fixture {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    ledger: Ledger,
    channel: ChannelKey,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new());
        let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
        let ledger = Ledger::new(store, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Self { folder, clock, ledger, channel: channel("chat:a") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("xpush.db")
    }

    fn append(&self, retention: Retention, drafts: Vec<Draft>) -> Appended {
        answer(|done| self.ledger.append(&self.channel, retention, drafts, done)).unwrap()
    }

    fn fill(&self, retention: Retention, ids: std::ops::RangeInclusive<u64>) {
        for id in ids {
            self.append(retention, vec![draft("ann", &id.to_string())]);
        }
    }

    /// Whether the draft with this id is a retry, and the seq.
    fn again(&self, retention: Retention, id: u64) -> (bool, u64) {
        let placed = self.append(retention, vec![draft("ann", &id.to_string())]).taken.remove(0).unwrap();
        (placed.retry, placed.message.seq())
    }

    /// What the file has: the slots, and those that have a body.
    fn kept(&self) -> (Vec<u64>, Vec<u64>) {
        let file = Connection::open(self.path()).unwrap();
        let seqs = |sql: &str| -> Vec<u64> {
            let mut select = file.prepare(sql).unwrap();
            let keys = select.query_map([], |row| row.get::<_, i64>(0)).unwrap();
            keys.map(|key| slot::seq(key.unwrap())).collect()
        };
        (
            seqs("SELECT slot FROM slots ORDER BY slot"),
            seqs("SELECT slot FROM slots WHERE json IS NOT NULL ORDER BY slot"),
        )
    }

    /// A sweep over all channels, now.
    fn sweep(&self) {
        let inner = Arc::clone(&self.ledger.inner);
        let sweep = move |writing: &Writing<'_>| {
            let mut channels = lock(&inner.channels);
            while Sweep::default().step(writing, &mut channels, inner.clock.now())? {
                channels.flush(writing, inner.clock.now())?;
            }
            Ok(())
        };
        answer(|done| self.ledger.store.write_checked(Weight::SMALL, sweep, done)).unwrap();
    }
}

fn count(count: usize) -> Retention {
    Retention { count, ..Retention::ENDLESS }
}

#[test]
fn bodies_leave_at_once_and_slots_when_retries_are_over() {
    let fixture = Fixture::new();
    fixture.fill(count(5), 1..=100);
    assert_eq!(fixture.kept(), ((1..=100).collect(), (96..=100).collect()));
    fixture.clock.advance(24 * HOUR);
    // Known for a day, without a body: answered with its seq, and nothing is written.
    assert_eq!(fixture.again(count(5), 3), (true, 3));
    assert_eq!(fixture.again(count(5), 98), (true, 98));
    fixture.clock.advance(25 * HOUR);
    fixture.fill(count(5), 101..=101);
    fixture.sweep();
    assert_eq!(fixture.kept(), ((97..=101).collect(), (97..=101).collect()));
    assert_eq!(fixture.again(count(5), 3), (false, 102), "it has no slot any more");
}

#[test]
fn the_newest_slot_stays_for_ever() {
    let fixture = Fixture::new();
    let retention = Retention { age_ms: 1000, ..Retention::ENDLESS };
    fixture.fill(retention, 1..=10);
    fixture.clock.advance(1000 * HOUR);
    fixture.sweep();
    assert_eq!(fixture.kept(), (vec![10], vec![10]));
    assert_eq!(fixture.again(retention, 10), (true, 10));
    assert_eq!(fixture.again(retention, 11), (false, 11));
}

#[test]
fn where_nothing_is_written_a_sweep_finds_what_is_too_old() {
    let fixture = Fixture::new();
    let retention = Retention { age_ms: HOUR, ..Retention::ENDLESS };
    fixture.fill(retention, 1..=50);
    fixture.clock.advance(HOUR);
    fixture.fill(retention, 51..=60);
    fixture.clock.advance(1);
    fixture.sweep();
    assert_eq!(fixture.kept(), ((1..=60).collect(), (51..=60).collect()));
    fixture.clock.advance(48 * HOUR);
    fixture.sweep();
    assert_eq!(fixture.kept(), (vec![60], vec![60]));
}

#[test]
fn what_leaves_does_so_a_few_slots_at_a_time() {
    let fixture = Fixture::new();
    let drafts = (1..=1000_u64).map(|id| draft("ann", &id.to_string())).collect();
    fixture.append(Retention::ENDLESS, drafts);
    // All but one may not be read any more. One append takes a part of them out, and those that follow the rest.
    fixture.fill(count(1), 1001..=1001);
    let (_, bodies) = fixture.kept();
    assert!((900..1000).contains(&bodies.len()), "{}", bodies.len());
    let page: Page = answer(|done| fixture.ledger.read(&fixture.channel, Range::After(0), 10, done)).unwrap();
    assert_eq!((page.first, page.messages.len()), (1001, 1));
    fixture.fill(count(1), 1002..=1020);
    assert_eq!(fixture.kept().1, [1020]);
}

#[test]
fn deleted_data_are_nowhere_in_the_file() {
    let fixture = Fixture::new();
    // One that fits into its page, and one that has pages of its own.
    let secrets = ["\"a small secret\"".to_owned(), format!("\"{}\"", "a large secret ".repeat(2000))];
    let change = |kind, id: &str, json: &str| Draft { kind, ..draft_with("ann", id, json) };
    let drafts = vec![
        draft_with("ann", "1", &secrets[0]),
        draft_with("ann", "2", &secrets[1]),
        draft("ann", "3"),
        change(Kind::Edit { target: 3 }, "4", &secrets[0]),
        change(Kind::Edit { target: 3 }, "5", &secrets[1]),
        change(Kind::Edit { target: 3 }, "6", "6"),
    ];
    fixture.append(Retention::ENDLESS, drafts);
    fixture.ledger.store.close();
    let secret = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(6).filter(|window| *window == b"secret").count()
    };
    // But for those that a page's end cuts in two.
    assert!(secret(&fixture.path()) > 3900, "the search finds them");

    let store = Store::open(fixture.path(), Options::default()).unwrap();
    let ledger = Ledger::new(store, Arc::clone(&fixture.clock) as Arc<dyn Clock>).unwrap();
    let drafts =
        (1..=3).map(|target| change(Kind::Delete { target }, &format!("d{target}"), "null")).collect();
    let appended: Appended =
        answer(|done| ledger.append(&fixture.channel, Retention::ENDLESS, drafts, done)).unwrap();
    assert_eq!(appended.taken.iter().filter(|taken| taken.is_ok()).count(), 3);
    ledger.store.close();
    assert_eq!(secret(&fixture.path()), 0);
    let log = fixture.folder.path().join("xpush.db-wal");
    assert!(!log.exists() || log.metadata().unwrap().len() == 0);
}

#[test]
fn ages_go_on_where_the_last_process_left_them() {
    let fixture = Fixture::new();
    let retention = Retention { age_ms: 24 * HOUR, ..Retention::ENDLESS };
    fixture.clock.advance(HOUR);
    fixture.fill(retention, 1..=3);
    fixture.sweep();
    fixture.ledger.store.close();
    // Started again with a clock that is a day behind, and one that is half a day ahead.
    let wall = fixture.clock.wall();
    for (jump, seqs) in [(wall - 24 * HOUR, 3), (wall + 12 * HOUR, 3), (wall + 25 * HOUR, 1)] {
        let clock = Arc::new(ManualClock::new());
        clock.set_wall(jump);
        let store = Store::open(fixture.path(), Options::default()).unwrap();
        let ledger = Ledger::new(store, clock).unwrap();
        let page: Page = answer(|done| ledger.read(&fixture.channel, Range::Newest, 10, done)).unwrap();
        assert_eq!(page.messages.len(), seqs);
        let again: Appended = answer(|done| {
            ledger.append(&fixture.channel, retention, vec![draft("ann", "2")], done);
        })
        .unwrap();
        assert!(again.taken[0].as_ref().is_ok_and(|placed| placed.retry));
    }
}

#[test]
fn a_slot_that_cannot_be_read_fails_only_who_asks_for_it() {
    let fixture = Fixture::new();
    fixture.fill(Retention::ENDLESS, 1..=3);
    let file = Connection::open(fixture.path()).unwrap();
    file.execute("UPDATE slots SET id = '' WHERE slot & 0xffff = 2", []).unwrap();
    let (sender, results) = std::sync::mpsc::channel();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let wait = move |_: &Writing<'_>| {
        let _ = held.recv();
        Ok(())
    };
    // While this one runs, the others gather into one batch.
    fixture.ledger.store.write(wait, Box::new(|_| {}));
    for ids in [vec!["4", "2", "5"], vec!["6"]] {
        let sender = sender.clone();
        let drafts = ids.iter().map(|id| draft("ann", id)).collect();
        let done = move |result: Result<Appended, PortError>| sender.send(result.unwrap()).unwrap();
        fixture.ledger.append(&fixture.channel, Retention::ENDLESS, drafts, Box::new(done));
    }
    hold.send(()).unwrap();
    let told: Vec<_> = results
        .iter()
        .take(2)
        .map(|appended| {
            let seqs = appended.taken.into_iter().map(|taken| taken.unwrap().message.seq());
            (seqs.collect::<Vec<_>>(), appended.failure.map(|failure| failure.kind))
        })
        .collect();
    assert_eq!(told, [(vec![4], Some(Failure::NotApplied)), (vec![5], None)]);
}

/// Opens the file anew.
fn again(fixture: &Fixture, recent_fences: usize) -> Ledger {
    let store = Store::open(fixture.path(), Options { recent_fences, ..Options::default() }).unwrap();
    Ledger::new(store, Arc::clone(&fixture.clock) as Arc<dyn Clock>).unwrap()
}

/// Appends these ids in one call; each one's seq, and whether it was a retry.
fn publish(ledger: &Ledger, name: &str, ids: std::ops::Range<u64>) -> Vec<(u64, bool)> {
    let drafts = ids.map(|id| draft("ann", &id.to_string())).collect();
    let appended: Appended =
        answer(|done| ledger.append(&channel(name), Retention::ENDLESS, drafts, done)).unwrap();
    let placed = appended.taken.into_iter().map(|taken| taken.unwrap());
    placed.map(|placed| (placed.message.seq(), placed.retry)).collect()
}

fn number(fixture: &Fixture, sql: &str) -> i64 {
    Connection::open(fixture.path()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_retry_is_known_wherever_its_fence_is() {
    let fixture = Fixture::new();
    fixture.ledger.store.close();
    let names = ["chat:a", "chat:b", "chat:c"];
    let (mut sent, mut kept, mut apart) = (0, 0, false);
    for round in 1..=12 {
        let ledger = again(&fixture, 100);
        for part in 0..3 {
            for name in names {
                let fresh = publish(&ledger, name, sent..sent + 17);
                let expected: Vec<_> = (sent + 1..=sent + 17).map(|seq| (seq, false)).collect();
                assert_eq!(fresh, expected, "round {round}, part {part}");
            }
            sent += 17;
            let retries: Vec<_> = (1..=sent).map(|seq| (seq, true)).collect();
            for name in names {
                assert_eq!(publish(&ledger, name, 0..sent), retries, "round {round}, part {part}");
            }
        }
        ledger.store.close();
        kept = number(&fixture, "SELECT count(*) FROM known_fences");
        apart |= kept > 0 && kept < 3 * sent as i64;
    }
    assert!(kept > 1000 && apart, "{kept} of {}: some in the table, some not", 3 * sent);
    let wrong = "SELECT count(*) FROM slots AS s JOIN channels AS c ON c.id = s.slot >> 36
        LEFT JOIN known_fences AS k ON k.channel = c.id AND k.fence = s.fence
        WHERE s.slot & 68719476735 <= c.fenced AND k.seq IS NOT s.slot & 68719476735";
    assert_eq!(number(&fixture, wrong), 0, "what the channel says is in the table is there");
    assert!(number(&fixture, "SELECT min(fenced) FROM channels") > 0);
}

#[test]
fn slots_that_leave_take_their_fences_with_them() {
    let fixture = Fixture::new();
    fixture.ledger.store.close();
    let ledger = again(&fixture, 10);
    for first in (0..100).step_by(10) {
        publish(&ledger, "chat:a", first..first + 10);
    }
    assert!(number(&fixture, "SELECT count(*) FROM known_fences") > 50);
    fixture.clock.advance(49 * HOUR);
    for id in 100..120 {
        let drafts = vec![draft("ann", &id.to_string())];
        let _: Appended = answer(|done| ledger.append(&fixture.channel, count(1), drafts, done)).unwrap();
    }
    let left = "SELECT count(*) FROM known_fences WHERE seq <= 100";
    assert_eq!((number(&fixture, left), number(&fixture, "SELECT min(slot & 65535) FROM slots")), (0, 101));
    assert_eq!(publish(&ledger, "chat:a", 5..6), [(121, false)]);
}

#[test]
fn no_query_looks_through_a_table() {
    let fixture = Fixture::new();
    fixture.fill(count(5), 1..=20);
    let file = Connection::open(fixture.path()).unwrap();
    let hot = [
        concat!("SELECT ", slot::slot_columns!(), " WHERE s.slot >= 1 AND s.slot < 9 ORDER BY s.slot"),
        concat!("SELECT ", slot::slot_columns!(), " WHERE s.slot = 1 AND s.fence = x'00'"),
        "SELECT seq FROM known_fences WHERE channel = 1 AND fence = x'00'",
        "SELECT count(*) FROM slots WHERE withdrawn = 1 AND slot >= 1 AND slot <= 9",
        "UPDATE slots SET json = NULL WHERE target = 1 AND kind = 2",
        "SELECT user FROM markers WHERE channel = 1 ORDER BY moved DESC LIMIT 9",
        "SELECT * FROM markers AS m JOIN channels AS c ON c.id = m.channel WHERE m.app = 'a' AND m.user = 'u'",
        "SELECT * FROM channels WHERE app = 'a' AND name = 'n'",
    ];
    for sql in hot {
        let mut explain = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = explain.query_map([], |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(
            steps.iter().all(|step| !step.starts_with("SCAN") && !step.contains("TEMP B-TREE")),
            "{sql}: {steps:?}"
        );
    }
}
