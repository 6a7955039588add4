//! What every [`Files`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::any::Any;
use std::sync::Arc;
use std::thread;

use xpush_core::ports::files::{FileListing, FileRecord, FileState, Files, Thumbnail};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{App, Channel, FileId, User};

use crate::sample::{app, user};
use crate::suite::answer;

/// No files.
pub struct FileStore {
    /// Two handles on them, as two nodes have them.
    pub handles: [Arc<dyn Files>; 2],
    /// What they need: a folder, a server.
    pub on: Box<dyn Any>,
}

/// Makes each property of a [`Files`] a test; `$fixture` is a function that gives a [`FileStore`].
#[macro_export]
macro_rules! files_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, files:
            what_is_noted_is_known_to_every_handle
            an_id_is_noted_once
            what_is_gone_is_replaced_by_nothing
            apps_are_apart
            listings_are_the_newest_first_and_in_pages
            what_is_due_comes_first
            bytes_are_counted_from_a_moment_on
            bytes_of_an_app_are_those_of_all_its_files
            of_many_who_note_one_id_one_does
        );
    };
}

/// A file, told from others by a number, which is also when it was made.
fn file(of: &str, number: u8, channel: &str, owner: &str) -> FileRecord {
    FileRecord {
        id: FileId::made_of(1_000 + u64::from(number), [number; 16]),
        app: app(of),
        channel: Channel::new(channel).expect("a good name"),
        owner: user(owner),
        name: "a \u{1f4f7} \"picture\"\n.png".into(),
        kind: "image/png".into(),
        size: 10 * u64::from(number),
        hash: "abc".into(),
        width: Some(3),
        height: Some(4),
        thumbnail: Some(Thumbnail { kind: "image/jpeg".into(), width: 1, height: 2, size: 3 }),
        created_at: 1_000 + u64::from(number),
        expires_at: None,
        state: FileState::Uploading,
    }
}

impl FileStore {
    fn add(&self, file: &FileRecord) -> Result<(), PortError> {
        answer(|done| self.handles[0].add(file.clone(), done))
    }

    fn get(&self, of: &App, id: &FileId) -> Option<FileRecord> {
        answer(|done| self.handles[1].get(of, id, done)).expect("an answer")
    }

    fn list(&self, listing: &FileListing, after: Option<&FileRecord>, limit: usize) -> Vec<FileRecord> {
        let after = after.map(|file| file.id.clone());
        answer(|done| self.handles[1].list(listing, after, limit, done)).expect("an answer")
    }

    fn due(&self, now: u64, limit: usize) -> Vec<FileRecord> {
        answer(|done| self.handles[1].due(now, limit, done)).expect("an answer")
    }

    fn bytes(&self, of: &App, owner: &User, since: u64) -> u64 {
        answer(|done| self.handles[1].bytes_since(of, owner, since, done)).expect("an answer")
    }
}

pub fn what_is_noted_is_known_to_every_handle(store: &FileStore) {
    let mut one = file("demo", 1, "chat:a", "ann");
    store.add(&one).expect("it is new");
    assert_eq!(store.get(&one.app, &one.id), Some(one.clone()));
    one.state = FileState::Ready;
    (one.thumbnail, one.expires_at, one.size) = (None, Some(7), 1 << 40);
    assert_eq!(answer(|done| store.handles[1].replace(one.clone(), done)), Ok(()));
    assert_eq!(answer(|done| store.handles[0].get(&one.app, &one.id, done)), Ok(Some(one.clone())));
    for handle in &store.handles {
        assert_eq!(answer(|done| handle.remove(&one.app, &one.id, done)), Ok(()));
        assert_eq!(store.get(&one.app, &one.id), None);
    }
}

pub fn an_id_is_noted_once(store: &FileStore) {
    let one = file("demo", 1, "chat:a", "ann");
    store.add(&one).expect("it is new");
    for other in [file("demo", 1, "chat:b", "bob"), file("other", 1, "chat:a", "ann")] {
        assert_eq!(store.add(&other).map_err(|error| error.kind), Err(Failure::Conflict));
    }
    assert_eq!(store.get(&one.app, &one.id), Some(one));
}

pub fn what_is_gone_is_replaced_by_nothing(store: &FileStore) {
    let one = file("demo", 1, "chat:a", "ann");
    let replace = |file: &FileRecord| answer(|done| store.handles[0].replace(file.clone(), done));
    assert_eq!(replace(&one).map_err(|error| error.kind), Err(Failure::Conflict));
    store.add(&one).expect("it is new");
    answer(|done| store.handles[1].remove(&one.app, &one.id, done)).expect("an answer");
    assert_eq!(replace(&one).map_err(|error| error.kind), Err(Failure::Conflict));
    assert_eq!(store.get(&one.app, &one.id), None);
}

pub fn apps_are_apart(store: &FileStore) {
    let one = file("demo", 1, "chat:a", "ann");
    store.add(&one).expect("it is new");
    assert_eq!(store.get(&app("other"), &one.id), None);
    answer(|done| store.handles[0].remove(&app("other"), &one.id, done)).expect("an answer");
    let elsewhere = FileRecord { app: app("other"), ..one.clone() };
    let replaced = answer(|done| store.handles[0].replace(elsewhere, done));
    assert_eq!(replaced.map_err(|error| error.kind), Err(Failure::Conflict));
    assert_eq!(store.get(&one.app, &one.id), Some(one.clone()));
    assert_eq!(store.list(&FileListing::OfUser(app("other"), user("ann")), None, 9), []);
    assert_eq!(store.bytes(&app("other"), &user("ann"), 0), 0);
}

pub fn listings_are_the_newest_first_and_in_pages(store: &FileStore) {
    let files = [
        file("demo", 1, "chat:a", "ann"),
        file("demo", 2, "chat:b", "ann"),
        file("demo", 3, "chat:a", "bob"),
        file("demo", 4, "chat:a", "ann"),
        file("demos", 5, "chat:a", "ann"),
    ];
    for at in [2, 0, 4, 3, 1] {
        store.add(&files[at]).expect("it is new");
    }
    let channel = |name: &str| Channel::new(name).expect("a good name");
    for (listing, expected) in [
        (FileListing::OfApp(app("demo")), &[4, 3, 2, 1][..]),
        (FileListing::OfChannel(app("demo"), channel("chat:a")), &[4, 3, 1]),
        (FileListing::OfUser(app("demo"), user("ann")), &[4, 2, 1]),
        (FileListing::OfUser(app("demo"), user("nobody")), &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|number| files[number - 1].clone()).collect();
        assert_eq!(store.list(&listing, None, 9), expected, "{listing:?}");
        let mut paged: Vec<FileRecord> = Vec::new();
        loop {
            let page = store.list(&listing, paged.last(), 1);
            assert!(page.len() <= 1);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, expected, "{listing:?} in pages");
    }
}

pub fn what_is_due_comes_first(store: &FileStore) {
    for (number, of, expires_at) in
        [(1, "demo", Some(30)), (2, "other", Some(10)), (3, "demo", None), (4, "demo", Some(20))]
    {
        store.add(&FileRecord { expires_at, ..file(of, number, "chat:a", "ann") }).expect("it is new");
    }
    let due = |now, limit| -> Vec<u64> {
        store.due(now, limit).into_iter().filter_map(|file| file.expires_at).collect()
    };
    assert_eq!((due(9, 9), due(10, 9), due(29, 9)), (vec![], vec![10], vec![10, 20]));
    assert_eq!((due(99, 9), due(99, 2)), (vec![10, 20, 30], vec![10, 20]));
    let later = FileRecord { expires_at: Some(99), ..file("other", 2, "chat:a", "ann") };
    answer(|done| store.handles[0].replace(later, done)).expect("it is there");
    assert_eq!(due(98, 9), [20, 30]);
}

pub fn bytes_are_counted_from_a_moment_on(store: &FileStore) {
    for (number, owner) in [(1, "ann"), (2, "ann"), (3, "bob"), (4, "ann")] {
        store.add(&file("demo", number, "chat:a", owner)).expect("it is new");
    }
    let bytes = |owner: &str, since| store.bytes(&app("demo"), &user(owner), since);
    assert_eq!((bytes("ann", 0), bytes("ann", 1_002), bytes("ann", 1_003)), (70, 60, 40));
    assert_eq!((bytes("bob", 0), bytes("bob", 1_004), bytes("eve", 0)), (30, 0, 0));
}

pub fn bytes_of_an_app_are_those_of_all_its_files(store: &FileStore) {
    let bytes = |of: &str| answer(|done| store.handles[1].bytes(&app(of), done)).expect("an answer");
    assert_eq!(bytes("demo"), 0);
    let files = [
        file("demo", 1, "chat:a", "ann"),
        file("demo", 2, "chat:b", "bob"),
        file("demos", 3, "chat:a", "ann"),
    ];
    for one in &files {
        store.add(one).expect("it is new");
    }
    assert_eq!((bytes("demo"), bytes("demos"), bytes("dem")), (30, 30, 0));
    let larger = FileRecord { size: 1 << 40, state: FileState::Ready, ..files[0].clone() };
    answer(|done| store.handles[0].replace(larger, done)).expect("it is there");
    assert_eq!(bytes("demo"), (1 << 40) + 20);
    answer(|done| store.handles[0].remove(&app("demo"), &files[0].id, done)).expect("an answer");
    assert_eq!(bytes("demo"), 20);
}

pub fn of_many_who_note_one_id_one_does(store: &FileStore) {
    let noted: usize = thread::scope(|scope| {
        let note = |number: usize| {
            let files = &store.handles[number % 2];
            let one = file("demo", 1, "chat:a", &format!("user{number}"));
            scope.spawn(move || usize::from(answer(|done| files.add(one, done)).is_ok()))
        };
        let threads: Vec<_> = (0..8).map(note).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(noted, 1);
}
