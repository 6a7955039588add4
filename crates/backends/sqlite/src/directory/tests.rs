use xpush_core::ports::directory::{Record, UserRecord};
use xpush_core::{App, Channel, ChannelKey, User};
use xpush_testkit::suite::answer;

use super::*;
use crate::store::Options;

fn made(folder: &tempfile::TempDir) -> (Arc<Store>, SqliteDirectory) {
    let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
    (Arc::clone(&store), SqliteDirectory::new(store))
}

fn execute(store: &Store, sql: &'static str) {
    answer(|done| store.write(move |writing| Ok(writing.execute_batch(sql)?), done)).unwrap();
}

fn key(name: &str) -> Key {
    Key::User(App::new("demo").unwrap(), User::new(name).unwrap())
}

fn put(directory: &SqliteDirectory, name: &str) -> u64 {
    let user = UserRecord { password: Some("a-digest".into()), ..UserRecord::default() };
    let to = Some(Record::User(Box::new(user)));
    answer(|done| directory.apply(Change { key: key(name), expected: Expected::Any, to }, done)).unwrap()
}

#[test]
fn what_was_forgotten_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (store, directory) = made(&folder);
    let first = put(&directory, "ann");
    assert_eq!(first, 1);
    // As if so many had been made meanwhile.
    execute(&store, "UPDATE changes SET seq = seq + 19998");
    let [second, third, fourth] = ["bob", "cy", "di"].map(|name| put(&directory, name));
    assert_eq!((second, third, fourth), (20_000, 20_001, 20_002));
    let changes = |since| answer(|done| directory.changes(since, 10, done)).unwrap();
    assert_eq!(
        changes(19_998),
        Changes { keys: ["ann", "bob", "cy", "di"].map(key).into(), next: 20_002, gap: false }
    );
    assert_eq!(changes(19_997), Changes { keys: Vec::new(), next: 20_002, gap: true });
    execute(&store, "UPDATE changes SET seq = seq + 1 - 19999 WHERE seq = 19999");
    let fifth = put(&directory, "eve");
    assert_eq!(
        answer(|done| directory.changes(0, 10, done)).unwrap(),
        Changes { keys: Vec::new(), next: fifth, gap: true }
    );
    let kept: i64 = answer(|done| {
        store.read(
            |connection| Ok(connection.query_row("SELECT min(seq) FROM changes", [], |row| row.get(0))?),
            done,
        )
    })
    .unwrap();
    assert_eq!(kept, 20_000, "the oldest is removed");
}

#[test]
fn every_listing_is_one_range_of_one_index() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = made(&folder);
    let (app, user) = (App::new("demo").unwrap(), User::new("ann").unwrap());
    let room = ChannelKey::new(app.clone(), Channel::new("room:a").unwrap());
    let of = |listing: fn(App, User) -> Listing| listing(app.clone(), user.clone());
    for listing in [
        Listing::Apps,
        Listing::Users(app.clone()),
        of(Listing::Devices),
        of(Listing::Logins),
        Listing::Members(room),
        of(Listing::Memberships),
        of(Listing::Blocks),
        of(Listing::Identities),
    ] {
        for behind in [false, true] {
            let sql = format!("EXPLAIN QUERY PLAN {}", Query::of(&listing).sql(behind));
            let plan: Vec<String> = answer(|done| {
                store.read(
                    move |connection| {
                        let mut statement = connection.prepare(&sql)?;
                        // The plan is the same whatever is asked for.
                        let steps = statement.raw_query().mapped(|row| row.get(3));
                        Ok(steps.collect::<Result<_, _>>()?)
                    },
                    done,
                )
            })
            .unwrap();
            // One step: no sorting behind it.
            assert!(plan.len() == 1 && plan[0].starts_with("SEARCH entries USING"), "{listing:?}: {plan:?}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error_that_quotes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, directory) = made(&folder);
    for (damage, said) in [
        ("UPDATE entries SET body = CAST('\"a-digest\"' AS BLOB)", "cannot be read"),
        ("UPDATE entries SET form = 2", "later release"),
    ] {
        put(&directory, "ann");
        execute(&store, damage);
        let got = answer(|done| directory.get(&key("ann"), done)).err().unwrap();
        let listed = answer(|done| directory.page(&Listing::Users(App::new("demo").unwrap()), None, 9, done));
        for error in [got, listed.err().unwrap()] {
            assert_eq!(error.kind, Failure::NotApplied);
            assert!(error.detail.contains(said) && !error.detail.contains("a-digest"), "{error}");
        }
    }
}
