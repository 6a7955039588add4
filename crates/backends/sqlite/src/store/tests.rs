use std::sync::mpsc;

use xpush_testkit::suite::answer;

use super::*;

fn counted(store: &Store) -> i64 {
    let count =
        |connection: &Connection| Ok(connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?);
    answer(|done| store.read(count, done)).unwrap()
}

fn made(folder: &tempfile::TempDir, options: Options) -> Arc<Store> {
    let store = Store::open(folder.path().join("xpush.db"), options).unwrap();
    answer(|done| {
        store.write(
            |writing| Ok(writing.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER UNIQUE)")?),
            done,
        )
    })
    .unwrap();
    store
}

fn insert(n: i64) -> impl FnOnce(&Writing<'_>) -> Result<(), Fault> {
    move |writing| Ok(writing.prepare_cached("INSERT INTO t VALUES (?1)")?.execute([n]).map(|_| ())?)
}

#[test]
fn what_was_answered_is_read_through_every_store() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [made(&folder, Options::default()), made(&folder, Options::default())];
    for n in 0..200 {
        answer(|done| stores[n % 2].write(insert(n as i64), done)).unwrap();
        assert_eq!(counted(&stores[(n + 1) % 2]), n as i64 + 1);
    }
}

#[test]
fn a_job_that_fails_is_undone_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = made(&folder, Options::default());
    let (sender, results) = mpsc::channel();
    let (hold, held) = mpsc::channel::<()>();
    // While this one runs, the others gather into one batch.
    store.write(move |_| released(&held), Box::new(|_| {}));
    for n in [1, 2, 1, 3] {
        let sender = sender.clone();
        let twice = move |writing: &Writing<'_>| {
            insert(n * 10)(writing).or_else(|_| insert(n * 100)(writing))?;
            insert(n)(writing)
        };
        store.write(twice, Box::new(move |result| sender.send((n, result.is_ok())).unwrap()));
    }
    hold.send(()).unwrap();
    let results: Vec<_> = results.iter().take(4).collect();
    assert_eq!(results, [(1, true), (2, true), (1, false), (3, true)]);
    // The third has left nothing, not even what it wrote before it failed.
    assert_eq!(counted(&store), 6);
}

#[test]
fn everything_that_waits_is_committed_before_it_closes() {
    let folder = tempfile::tempdir().unwrap();
    let store = made(&folder, Options::default());
    let (sender, results) = mpsc::channel();
    for n in 0..5000 {
        let sender = sender.clone();
        store.write(insert(n), Box::new(move |result| sender.send(result).unwrap()));
    }
    store.close();
    drop(sender);
    assert_eq!(results.iter().filter(Result::is_ok).count(), 5000);
    assert_eq!(answer(|done| store.write(insert(0), done)).unwrap_err().kind, Failure::NotApplied);
    let wal = folder.path().join("xpush.db-wal");
    assert!(wal.metadata().map_or(0, |wal| wal.len()) == 0, "the file alone holds everything");
    assert_eq!(counted(&made(&folder, Options::default())), 5000);
}

#[test]
fn the_last_owner_may_be_a_done() {
    let folder = tempfile::tempdir().unwrap();
    let store = made(&folder, Options::default());
    let (sender, ended) = mpsc::channel();
    let (hold, held) = mpsc::channel::<()>();
    let last = Arc::clone(&store);
    store.write(
        move |_| released(&held),
        Box::new(move |_| {
            drop(last);
            sender.send(()).unwrap();
        }),
    );
    drop(store);
    hold.send(()).unwrap();
    ended.recv_timeout(xpush_testkit::suite::PATIENCE).unwrap();
}

#[test]
fn beyond_the_bound_it_is_overloaded() {
    let folder = tempfile::tempdir().unwrap();
    let store = made(&folder, Options { queue: Weight { rows: 10, bytes: 1 << 20 }, ..Options::default() });
    let (hold, held) = mpsc::channel::<()>();
    let (started, runs) = mpsc::channel();
    let wait = move |_: &Writing<'_>| {
        started.send(()).unwrap();
        released(&held)
    };
    store.write(wait, Box::new(|_| {}));
    runs.recv().unwrap();
    for n in 0..10 {
        store.write(insert(n), Box::new(|result| assert_eq!(result, Ok(()))));
    }
    let refused = answer(|done| store.write(insert(11), done)).unwrap_err();
    assert_eq!(refused.kind, Failure::Overloaded);
    hold.send(()).unwrap();
    store.close();
    assert_eq!(counted(&made(&folder, Options::default())), 10);
}

#[test]
fn while_another_process_holds_the_file_writes_are_refused_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = made(&folder, Options { patience: Duration::from_millis(50), ..Options::default() });
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(answer(|done| store.write(insert(1), done)).unwrap_err().kind, Failure::NotApplied);
    assert_eq!(counted(&store), 0, "reads go on");
    other.execute_batch("COMMIT").unwrap();
    answer(|done| store.write(insert(1), done)).unwrap();
    assert_eq!(counted(&store), 1);
}

#[test]
fn the_log_is_bounded_while_it_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = made(&folder, Options::default());
    answer(|done| store.write(|writing| Ok(writing.execute_batch("CREATE TABLE b (n BLOB)")?), done))
        .unwrap();
    let wal = folder.path().join("xpush.db-wal");
    let mut largest = 0;
    // 400 MB through a log that may have 64, or twice that while the disk is behind.
    for round in 0..400 {
        let write = |writing: &Writing<'_>| {
            let mut replace =
                writing.prepare_cached("INSERT OR REPLACE INTO b (rowid, n) VALUES (?1, zeroblob(4000))")?;
            (0..256).try_for_each(|row| replace.execute([row]).map(|_| ()))?;
            Ok(())
        };
        answer(|done| store.write(write, done)).unwrap();
        largest = largest.max(wal.metadata().unwrap().len());
        if round % 7 == 0 {
            counted(&store);
        }
    }
    assert!(largest < 150 << 20, "{largest}");
}

/// Waits until the other end says go, or is gone.
fn released(held: &mpsc::Receiver<()>) -> Result<(), Fault> {
    let _ = held.recv();
    Ok(())
}
