//! An installation that was one server becomes one of several; and a store that has gone back is noticed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::json;
use xpush_core::ports::blobs::{BlobId, Blobs as _, Part};
use xpush_core::ports::cluster::Settings as _;
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::files::{FileListing, FileRecord, FileState, Files as _};
use xpush_core::ports::markers::{Mark, Markers};
use xpush_core::ports::message_log::{Draft, MessageLog, Page, Range};
use xpush_core::ports::outbox::{Item, Outbox as _};
use xpush_core::ports::wait;
use xpush_core::{
    App, Channel, ChannelKey, ClientId, Clock, EventName, FileId, Kind, Payload, Retention, Sender,
    SettingName, User,
};
use xpush_disk::DiskBlobs;
use xpush_embedded::SystemClock;
use xpush_testkit::fleet::{Process, history};
use xpush_testkit::service::s3::S3;
use xpush_testkit::service::wait_until;

use crate::world::{World, app};

/// A server of its own: without the cluster, but with its app.
const ALONE: &str = r#"
listen = "ADDRESS"
default_app = "demo"
"#;

/// A command for operators, in a server's folder.
fn xpush(folder: &Path, config: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xpush"));
    command.current_dir(folder).args(arguments).args(["--config", config, "--data-dir", "data"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

pub(crate) fn ok(folder: &Path, config: &str, arguments: &[&str]) -> String {
    let output = xpush(folder, config, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn refused(folder: &Path, config: &str, arguments: &[&str]) -> String {
    let output = xpush(folder, config, arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
    said(&output)
}

fn key(name: &str) -> ChannelKey {
    ChannelKey::new(App::new("demo").unwrap(), Channel::new(name).unwrap())
}

fn user(name: &str) -> User {
    User::new(name).unwrap()
}

/// The `number`th thing that `from` does.
fn draft(from: &str, number: u64, kind: Kind) -> Draft {
    let attachments =
        if number.is_multiple_of(7) { vec![Bytes::from(number.to_string())] } else { Vec::new() };
    Draft {
        kind,
        moderates: false,
        id: ClientId::new(&format!("id-{number}")).unwrap(),
        event: EventName::new("message").unwrap(),
        payload: Payload { json: Bytes::from(format!("{{\"number\":{number}}}")), attachments },
        from: Sender { user: user(from), name: number.is_multiple_of(3).then(|| Arc::from("a name")) },
        at: 1_700_000_000_000 + number,
    }
}

fn append(log: &dyn MessageLog, name: &str, retention: Retention, drafts: Vec<Draft>) {
    let count = drafts.len();
    let appended = wait(|done| log.append(&key(name), retention, drafts, done)).unwrap();
    assert_eq!((appended.taken.len(), appended.failure), (count, None));
}

/// Everything that can be asked of a channel.
fn told(log: &(impl MessageLog + Markers), name: &str) -> String {
    let key = key(name);
    let page = wait(|done| log.read(&key, Range::Newest, 1_000, done)).unwrap();
    let Page { epoch, first, head, messages } = &page;
    let mut told = format!("{epoch} {first} {head}\n");
    for message in messages {
        writeln!(told, "{message:?}").unwrap();
    }
    let markers = wait(|done| log.of_channel(&key, 100, done)).unwrap();
    let users = markers.iter().map(|(user, _)| user.clone()).collect();
    writeln!(told, "{markers:?} {:?}", wait(|done| log.unread(&key, users, done)).unwrap()).unwrap();
    for user in ["ann", "ben", "eve"].map(user) {
        let conversations = wait(|done| log.conversations(&key.app, &user, None, 100, done)).unwrap();
        writeln!(told, "{conversations:?}").unwrap();
    }
    told
}

/// A history with everything in it that a ledger knows.
fn write_history(ledger: &xpush_sqlite::Ledger) {
    let endless = Retention::ENDLESS;
    let ten = Retention { count: 10, ..Retention::ENDLESS };
    for (name, retention) in [("kept:a", endless), ("kept:few", ten)] {
        append(ledger, name, retention, (1..=20).map(|number| draft("ann", number, Kind::Message)).collect());
        append(
            ledger,
            name,
            retention,
            vec![draft("ben", 21, Kind::Silent), draft("ben", 22, Kind::Message)],
        );
        append(
            ledger,
            name,
            retention,
            vec![
                draft("ann", 23, Kind::Edit { target: 15 }),
                draft("ann", 24, Kind::Edit { target: 15 }),
                draft("ann", 25, Kind::Edit { target: 16 }),
                draft("ann", 26, Kind::Delete { target: 16 }),
                draft("ann", 27, Kind::Delete { target: 18 }),
                draft("ben", 28, Kind::Delete { target: 21 }),
            ],
        );
        wait(|done| Markers::begin(ledger, &key(name), &user("eve"), done)).unwrap();
        append(
            ledger,
            name,
            retention,
            vec![draft("ann", 29, Kind::Message), draft("dan", 30, Kind::Message)],
        );
        wait(|done| ledger.advance(&key(name), &user("ben"), Mark::Read, 29, done)).unwrap();
    }
    // A channel of which there is nothing but a marker.
    wait(|done| Markers::begin(ledger, &key("kept:empty"), &user("eve"), done)).unwrap();
    let (app, dan) = (App::new("demo").unwrap(), user("dan"));
    wait(|done| Erasure::begin(ledger, &app, &dan, 1, done)).unwrap();
    while !wait(|done| ledger.step(&app, &dan, done)).unwrap().ended {}
    wait(|done| Erasure::end(ledger, &app, &dan, done)).unwrap();
}

fn sqlite(folder: &Path) -> (Arc<xpush_sqlite::Store>, xpush_sqlite::Ledger) {
    let store =
        xpush_sqlite::Store::open(folder.join("data/xpush.db"), xpush_sqlite::Options::default()).unwrap();
    let ledger = xpush_sqlite::Ledger::new(store.clone(), Arc::new(SystemClock::new())).unwrap();
    (store, ledger)
}

fn mongo(world: &World) -> xpush_mongodb::Ledger {
    let store = xpush_mongodb::Store::open(xpush_mongodb::Options::new(world.mongo.uri(), "xpush")).unwrap();
    xpush_mongodb::Ledger::new(store, Arc::new(SystemClock::new()) as Arc<dyn Clock>)
}

#[test]
fn everything_that_a_ledger_can_be_asked_is_answered_the_same() {
    let mut world = World::services("migrated");
    let ways = world.ways();
    let folder = world.add_with(&ways, |config| config);
    fs::create_dir_all(folder.join("data")).unwrap();
    let channels = ["kept:a", "kept:few", "kept:empty", "kept:none"];
    let (store, ledger) = sqlite(&folder);
    write_history(&ledger);
    let before = channels.map(|name| told(&ledger, name));
    let outbox = xpush_sqlite::SqliteOutbox::new(store.clone(), Arc::new(SystemClock::new())).unwrap();
    let event =
        |key: &str| Item { queue: "hook/demo/a".into(), key: key.into(), body: Bytes::from_static(b"{}") };
    wait(|done| outbox.put(vec![event("ckept:a"), event("ckept:few")], done)).unwrap();
    store.close();
    drop((store, ledger));

    let answer = ok(&folder, "xpush.toml", &["migrate"]);
    assert!(answer.contains("3 channels with 60 messages, edits and deletions"), "{answer}");
    assert!(answer.contains("recent history stays behind"), "{answer}");
    assert!(answer.contains("2 events wait for hooks in this data folder"), "{answer}");
    let ledger = mongo(&world);
    for (name, before) in channels.iter().zip(&before) {
        assert_eq!(&told(&ledger, name), before, "{name}");
    }

    // It goes on: what is sent again is known, what comes next is next, and what was there can be edited.
    let place = |draft: Draft| {
        let appended =
            wait(|done| ledger.append(&key("kept:a"), Retention::ENDLESS, vec![draft], done)).unwrap();
        assert_eq!(appended.failure, None);
        appended.taken.into_iter().next().unwrap().unwrap()
    };
    let again = place(draft("ann", 3, Kind::Message));
    assert_eq!((again.retry, again.message.seq()), (true, 3));
    let next = place(draft("ann", 31, Kind::Edit { target: 1 }));
    assert_eq!((next.retry, next.message.seq()), (false, 31));
    let page = wait(|done| ledger.read(&key("kept:a"), Range::After(0), 1, done)).unwrap();
    assert_eq!(&page.messages[0].payload.json[..], b"{\"number\":31}");
    drop(ledger);

    let refusal = refused(&folder, "xpush.toml", &["migrate"]);
    assert!(refusal.contains("holds other data already"), "{refusal}");
    world.gone();
}

#[test]
fn a_migration_that_is_cut_short_is_begun_anew_and_nobody_is_served_before() {
    const MESSAGES: u64 = 12_000;
    let mut world = World::services("cut-short");
    let ways = world.ways();
    let folder = world.add_with(&ways, |config| config);
    fs::create_dir_all(folder.join("data")).unwrap();
    let (store, ledger) = sqlite(&folder);
    for from in (0..MESSAGES).step_by(1_000) {
        let some = (from + 1..=from + 1_000).map(|number| draft("ann", number, Kind::Message)).collect();
        append(&ledger, "kept:a", Retention::ENDLESS, some);
    }
    let newest = wait(|done| ledger.read(&key("kept:a"), Range::Newest, 10, done)).unwrap();
    store.close();
    drop((store, ledger));

    let mut migrating = xpush(&folder, "xpush.toml", &["migrate"]).spawn().unwrap();
    wait_until("it has begun", || {
        let output = xpush(&folder, "xpush.toml", &["user", "list"]).output().unwrap();
        said(&output).contains("it is not whole")
    });
    migrating.kill().unwrap();
    assert!(!migrating.wait().unwrap().success(), "it was over too soon: more messages are needed");
    let refusal = world.servers[0].fail();
    assert!(!refusal.status.success());
    assert!(crate::world::read(&world.servers[0].log()).contains("it is not whole"));

    ok(&folder, "xpush.toml", &["migrate"]);
    let ledger = mongo(&world);
    assert_eq!(wait(|done| ledger.read(&key("kept:a"), Range::Newest, 10, done)).unwrap(), newest);
    let mut last = 0;
    while last < MESSAGES {
        let page = wait(|done| ledger.read(&key("kept:a"), Range::After(last), 1_000, done)).unwrap();
        let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq()).collect();
        assert_eq!(seqs, (last + 1..=last + 1_000).collect::<Vec<_>>());
        last += 1_000;
    }
    drop(ledger);
    world.gone();
}

/// A file, told from others by a number, with this content; whole unless `state` says otherwise.
fn file(number: u8, content: &[u8], state: FileState, expires_at: Option<u64>) -> FileRecord {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    FileRecord {
        id: FileId::made_of(1_000 + u64::from(number), [number; 16]),
        app: App::new("demo").unwrap(),
        channel: Channel::new("kept:a").unwrap(),
        owner: user("ann"),
        name: format!("{number}.txt").into(),
        kind: "text/plain".into(),
        size: content.len() as u64,
        hash: URL_SAFE_NO_PAD.encode(digest).into(),
        width: None,
        height: None,
        thumbnail: None,
        created_at: 1_000 + u64::from(number),
        expires_at,
        state,
    }
}

/// Writes what is in a file into a folder of contents.
fn write_content(disk: &DiskBlobs, file: &FileRecord, content: &[u8]) {
    let id = BlobId::new(file.id.clone(), Part::Content);
    let mut upload = wait(|done| disk.create(&id, file.size, done)).unwrap();
    wait(|done| upload.write(Bytes::copy_from_slice(content), done)).unwrap();
    wait(|done| upload.finish(done)).unwrap();
}

#[test]
fn files_move_along_into_a_bucket_each_once_and_checked() {
    const WHOLE: [&[u8]; 3] = [b"one", b"the second", b"and a third"];
    let mut world = World::services("files-moved");
    let ways = world.ways();
    let folder = world.add_with(&ways, |config| config);
    fs::create_dir_all(folder.join("data")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let disk = DiskBlobs::open(&folder.join("data/files"), 0, runtime.handle().clone()).unwrap();
    let (store, ledger) = sqlite(&folder);
    let files = xpush_sqlite::SqliteFiles::new(store.clone());
    let numbers = 1..;
    let mut records: Vec<_> = WHOLE
        .iter()
        .zip(numbers)
        .map(|(content, number)| file(number, content, FileState::Ready, None))
        .collect();
    for record in &records {
        wait(|done| files.add(record.clone(), done)).unwrap();
    }
    // Of these nobody could have anything.
    for other in
        [file(8, b"over", FileState::Ready, Some(1)), file(9, b"half", FileState::Uploading, Some(9))]
    {
        wait(|done| files.add(other, done)).unwrap();
    }
    for (record, content) in records.iter().zip(WHOLE).take(2) {
        write_content(&disk, record, content);
    }
    drop(files);
    store.close();
    drop((store, ledger));

    let refusal = refused(&folder, "xpush.toml", &["migrate"]);
    assert!(refusal.contains("there are 3 files") && refusal.contains("--without-files"), "{refusal}");

    let s3 = S3::start();
    fs::write(folder.join("secret"), S3::SECRET_KEY).unwrap();
    let bucket = format!(
        "\n[s3]\nendpoint = \"{}\"\nbucket = \"{}\"\naccess_key = \"{}\"\nsecret_key_file = \"{}\"\n",
        s3.endpoint(),
        S3::BUCKET,
        S3::ACCESS_KEY,
        folder.join("secret").display()
    );
    let config = crate::world::read(&folder.join("xpush.toml"));
    fs::write(folder.join("xpush.toml"), config + &bucket).unwrap();
    let refusal = refused(&folder, "xpush.toml", &["migrate"]);
    let lost = records[2].id.as_str();
    assert!(refusal.contains("files without contents: 1; damaged: 0") && refusal.contains(lost), "{refusal}");
    assert_eq!(s3.kept("xpush"), 2, "what was copied stays");

    // One that has become another one on the disk is as good as none.
    write_content(&disk, &records[2], b"and a THIRD");
    let refusal = refused(&folder, "xpush.toml", &["migrate"]);
    assert!(refusal.contains("files without contents: 0; damaged: 1"), "{refusal}");

    write_content(&disk, &records[2], WHOLE[2]);
    let answer = ok(&folder, "xpush.toml", &["migrate"]);
    assert!(answer.contains("3 files (24 bytes) moved along, 2 of them were there already"), "{answer}");
    assert_eq!(s3.kept("xpush"), 3);
    let known = xpush_mongodb::Store::open(xpush_mongodb::Options::new(world.mongo.uri(), "xpush")).unwrap();
    let known = xpush_mongodb::MongoFiles::new(known);
    let listing = FileListing::OfApp(App::new("demo").unwrap());
    let found = wait(|done| known.list(&listing, None, 10, done)).unwrap();
    records.reverse();
    assert_eq!(found, records);
    world.gone();
}

#[test]
fn clients_of_a_server_that_was_alone_go_on_in_the_cluster() {
    let mut world = World::services("moved-in");
    let ways = world.ways();
    let folder = world.add_with(&ways, |config| config);
    let alone = ALONE.replace("ADDRESS", &world.servers[0].address.to_string());
    fs::write(folder.join("alone.toml"), alone + &app()).unwrap();
    ok(&folder, "alone.toml", &["app", "create", "shop"]);
    ok(&folder, "alone.toml", &["app", "key", "create", "shop", "--scope", "publish"]);
    ok(&folder, "alone.toml", &["member", "add", "room:a", "ann", "--app", "shop"]);
    let listed = |config: &str| {
        [
            &["app", "list"][..],
            &["app", "key", "list", "shop"],
            &["member", "list", "room:a", "--app", "shop"],
        ]
        .map(|arguments| ok(&folder, config, arguments))
    };
    let (apps, seen, last);
    {
        let stderr = fs::File::create(folder.join("alone.log")).unwrap();
        let mut alone = xpush(&folder, "alone.toml", &["serve"]);
        let mut server = Process::start(alone.stderr(stderr)).unwrap();
        let mut ann = world.servers[0].connect("ann");
        let publish =
            |number: u64| json!({"channel": "kept:a", "data": number, "message_id": format!("p{number}")});
        for number in 1..=10 {
            ann.ask("publish", publish(number)).unwrap();
        }
        ann.ask("edit", json!({"channel": "kept:a", "seq": 2, "data": "edited"})).unwrap();
        last = ann.ask("publish", publish(12)).unwrap();
        ann.ask("read", json!({"channel": "kept:a", "seq": 5})).unwrap();
        seen = history(&mut ann, "kept:a", true).unwrap();
        server.kill().unwrap();
        apps = listed("alone.toml");
    }
    ok(&folder, "xpush.toml", &["migrate"]);
    world.servers[0].launch().unwrap();
    world.settle();
    assert_eq!(listed("xpush.toml"), apps);

    let mut ann = world.servers[0].connect("ann");
    let since = json!({"epoch": last["epoch"], "seq": 4});
    let resumed = ann.ask("subscribe", json!({"channel": "kept:a", "since": since})).unwrap();
    assert_eq!(resumed["recovered"], true, "{resumed}");
    assert_eq!((&resumed["epoch"], &resumed["seq"]), (&last["epoch"], &last["seq"]), "{resumed}");
    assert_eq!(history(&mut ann, "kept:a", true).unwrap(), seen);
    let again = ann.ask("publish", json!({"channel": "kept:a", "data": 3, "message_id": "p3"})).unwrap();
    assert_eq!(again["seq"], 3, "what was sent before is known: {again}");
    world.gone();
}

#[test]
fn a_store_that_has_gone_back_is_noticed_and_a_new_epoch_tells_clients() {
    let mut world = World::start("gone-back", 1);
    let folder = world.servers[0].folder().to_owned();
    let mut ann = world.servers[0].connect("ann");
    for number in 0..3 {
        ann.ask("publish", json!({"channel": "kept:a", "data": number})).unwrap();
    }
    let place = ann.ask("publish", json!({"channel": "kept:a", "data": "last"})).unwrap();
    let since = |seq: u64| json!({"channel": "kept:a", "since": {"epoch": place["epoch"], "seq": seq}});
    assert_eq!(ann.ask("subscribe", since(2)).unwrap()["recovered"], true);
    // Somebody has seen what the store does not hold.
    assert_eq!(world.servers[0].connect("ben").ask("subscribe", since(9)).unwrap()["recovered"], false);
    let log = crate::world::read(&world.servers[0].log());
    assert!(
        log.contains("a client has seen more of a channel than the store holds")
            && log.contains("xpush epoch new")
    );
    let refusal = refused(&folder, "xpush.toml", &["epoch", "new"]);
    assert!(refusal.contains("these servers are running") && refusal.contains("push-1"), "{refusal}");

    // It was noted that the store had come further than it has.
    let epoch = place["epoch"].as_str().unwrap();
    let noted = json!({"v": 1, "epoch": epoch, "clock": u64::MAX / 4}).to_string();
    let (cluster, views) = world.cluster();
    let name = SettingName::new("ledger").unwrap();
    let generation = views.last().settings.get(&name).map_or(0, |setting| setting.generation);
    wait(|done| cluster.set(&name, generation, Bytes::from(noted), done)).unwrap();
    world.servers[0].kill();
    views.until("nobody is there", |view| view.nodes.is_empty());
    let failed = world.servers[0].fail();
    assert!(!failed.status.success());
    assert!(crate::world::read(&world.servers[0].log()).contains("MongoDB holds less than it did"));
    let doctor = refused(&folder, "xpush.toml", &["doctor"]);
    assert!(
        doctor.contains("MongoDB holds less than it did") && doctor.contains("xpush epoch new"),
        "{doctor}"
    );

    ok(&folder, "xpush.toml", &["epoch", "new"]);
    world.servers[0].launch().unwrap();
    let mut ann = world.servers[0].connect("ann");
    let resumed = ann.ask("subscribe", since(2)).unwrap();
    assert_eq!(resumed["recovered"], false, "{resumed}");
    assert_ne!(resumed["epoch"], place["epoch"], "{resumed}");
    let kept = history(&mut ann, "kept:a", true).unwrap();
    assert_eq!((kept.head, kept.slots.len()), (4, 4), "and everything is there");
    world.gone();
}
