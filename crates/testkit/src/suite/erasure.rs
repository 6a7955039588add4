//! What every [`Erasure`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::any::Any;
use std::sync::Arc;
use std::thread;

use xpush_core::ports::directory::{Change, Directory, Expected, Key, Record};
use xpush_core::ports::erasure::{Erasure, NOBODY, Pending, Step};
use xpush_core::ports::markers::Markers;
use xpush_core::ports::message_log::{Draft, MessageLog, Page, Range};
use xpush_core::{Channel, ChannelKey, Kind, Message, Retention, Sender};

use crate::sample::{app, channel, channel_of, draft, draft_with, user};
use crate::suite::{answer, ends};

/// A new, empty store.
pub struct ErasureStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn Erasure>; 2],
    /// Its messages, through the same handles.
    pub logs: [Arc<dyn MessageLog>; 2],
    /// Its markers, if it keeps any.
    pub markers: Option<[Arc<dyn Markers>; 2]>,
    /// What must live as long as the store.
    pub keeps: Box<dyn Any>,
}

/// Makes each property of an [`Erasure`] a test; `$fixture` is a function that gives an [`ErasureStore`].
#[macro_export]
macro_rules! erasure_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, erasure:
            nothing_is_pending_at_first
            what_has_begun_is_pending_until_it_ends
            what_is_not_pending_has_ended
            a_users_messages_read_as_deleted_and_are_nobodys
            what_others_have_said_stays
            edits_of_what_is_erased_say_nothing
            what_was_deleted_stays_deleted_by_nobody
            what_was_written_into_others_messages_goes
            places_stay
            personal_channels_begin_anew
            what_the_server_has_said_of_the_user_goes
            apps_are_apart
            steps_come_to_an_end_however_much_there_is
            two_may_erase_at_once
            a_message_that_is_sent_again_takes_a_new_place
            whoever_comes_again_is_not_erased
            unread_counts_as_if_it_was_deleted
            markers_go
            done_may_call_the_erasure
        );
    };
}

/// Keeps whatever the suite writes.
const ROOMY: Retention = Retention { count: 100_000, bytes: 1 << 30, age_ms: 86_400_000 };

impl ErasureStore {
    /// Of two ledgers on one store, which keep messages and markers, too.
    pub fn of_ledgers<L: Erasure + MessageLog + Markers + 'static>(
        ledgers: [Arc<L>; 2],
        keeps: Box<dyn Any>,
    ) -> Self {
        Self {
            handles: ledgers.each_ref().map(|ledger| Arc::clone(ledger) as Arc<dyn Erasure>),
            logs: ledgers.each_ref().map(|ledger| Arc::clone(ledger) as Arc<dyn MessageLog>),
            markers: Some(ledgers.map(|ledger| ledger as Arc<dyn Markers>)),
            keeps,
        }
    }

    fn append(&self, channel: &ChannelKey, drafts: Vec<Draft>) -> Vec<Arc<Message>> {
        let appended = answer(|done| self.logs[0].append(channel, ROOMY, drafts, done)).expect("an answer");
        assert_eq!(appended.failure, None);
        appended.taken.into_iter().map(|taken| taken.expect("takes a place").message).collect()
    }

    fn all(&self, channel: &ChannelKey) -> Page {
        answer(|done| self.logs[1].read(channel, Range::After(0), usize::MAX, done)).expect("a page")
    }

    fn begin(&self, name: &str) {
        answer(|done| self.handles[0].begin(&app("demo"), &user(name), 7, done)).expect("begins");
    }

    fn pending(&self, handle: usize) -> Vec<Pending> {
        answer(|done| self.handles[handle].pending(done)).expect("what is pending")
    }

    fn step(&self, handle: usize, name: &str) -> Step {
        step(&self.handles[handle], name)
    }

    fn end(&self, name: &str) {
        answer(|done| self.handles[1].end(&app("demo"), &user(name), done)).expect("ends");
    }

    /// All of it; how much was erased.
    fn erase(&self, name: &str) -> u64 {
        self.begin(name);
        let erased = loop {
            let step = self.step(0, name);
            if step.ended {
                break step.erased;
            }
        };
        self.end(name);
        erased
    }
}

fn step(erasure: &Arc<dyn Erasure>, name: &str) -> Step {
    answer(|done| erasure.step(&app("demo"), &user(name), done)).expect("a step")
}

fn edit(from: &str, id: &str, target: u64, json: &str) -> Draft {
    Draft { kind: Kind::Edit { target }, moderates: true, ..draft_with(from, id, json) }
}

fn delete(from: &str, id: &str, target: u64) -> Draft {
    Draft { kind: Kind::Delete { target }, moderates: true, ..draft_with(from, id, "null") }
}

fn named(draft: Draft, name: &str) -> Draft {
    Draft { from: Sender { name: Some(Arc::from(name)), ..draft.from.clone() }, ..draft }
}

/// Whether nothing of it says whose it was and what it said.
fn is_erased(message: &Message) -> bool {
    let Message { from, payload, kind, .. } = message;
    let deleted = !kind.is_message() || message.is_deleted();
    let anonymous = from.user.as_str() == NOBODY && from.name.is_none();
    deleted && anonymous && &*payload.json == b"null" && payload.attachments.is_empty()
}

pub fn nothing_is_pending_at_first(store: &ErasureStore) {
    assert_eq!(store.pending(0), []);
}

pub fn what_has_begun_is_pending_until_it_ends(store: &ErasureStore) {
    store.begin("ann");
    let begun = Pending { app: app("demo"), user: user("ann"), since: 7 };
    assert_eq!(store.pending(1), std::slice::from_ref(&begun));
    answer(|done| store.handles[1].begin(&app("demo"), &user("ann"), 9, done)).expect("begins");
    answer(|done| store.handles[1].begin(&app("other"), &user("ann"), 3, done)).expect("begins");
    let other = Pending { app: app("other"), user: user("ann"), since: 3 };
    assert_eq!(store.pending(0), [other.clone(), begun.clone()]);
    while !store.step(0, "ann").ended {}
    assert_eq!(store.pending(1), [other.clone(), begun]);
    store.end("ann");
    assert_eq!(store.pending(0), [other]);
    store.end("ann");
}

pub fn what_is_not_pending_has_ended(store: &ErasureStore) {
    let chat = channel("chat:a");
    store.append(&chat, vec![draft("ann", "1")]);
    assert!(store.step(0, "ann").ended);
    assert!(!is_erased(&store.all(&chat).messages[0]));
}

pub fn a_users_messages_read_as_deleted_and_are_nobodys(store: &ErasureStore) {
    let (one, two) = (channel("chat:a"), channel("chat:b"));
    let said = store.append(&one, vec![named(draft("ann", "ann's 1"), "Ann"), draft("bob", "2")]);
    let silent = Draft { kind: Kind::Silent, ..draft("ann", "ann's 2") };
    store.append(&two, vec![silent, draft("ann", "ann's 3")]);
    assert_eq!(store.erase("ann"), 3);
    let page = store.all(&one);
    assert!(is_erased(&page.messages[0]) && !is_erased(&page.messages[1]));
    assert_eq!(page.messages[0].revision.map(|revision| revision.seq), Some(1), "its own");
    assert_eq!((page.messages[0].at, page.messages[0].kind), (said[0].at, Kind::Message));
    assert!(store.all(&two).messages.iter().all(|message| is_erased(message)));
    assert_eq!(store.all(&two).messages[0].kind, Kind::Silent);
    let ids = page.messages.iter().map(|message| message.id.as_str().to_owned());
    assert!(ids.filter(|id| id.contains("ann")).count() == 0, "ids were chosen by the user");
}

pub fn what_others_have_said_stays(store: &ErasureStore) {
    let chat = channel("chat:a");
    store.append(
        &chat,
        vec![draft("ann", "1"), draft("anna", "2"), draft("an", "3"), edit("bob", "4", 2, "5")],
    );
    let before = store.all(&chat);
    store.erase("ann");
    assert_eq!(store.all(&chat).messages[1..], before.messages[1..]);
}

pub fn edits_of_what_is_erased_say_nothing(store: &ErasureStore) {
    let chat = channel("chat:a");
    store.append(
        &chat,
        vec![draft("ann", "1"), edit("ann", "2", 1, r#""secret""#), edit("bob", "3", 1, r#""secret""#)],
    );
    store.erase("ann");
    let page = store.all(&chat);
    assert!(is_erased(&page.messages[0]) && is_erased(&page.messages[1]));
    assert_eq!(page.messages[0].revision.map(|revision| revision.seq), Some(3));
    let others = &page.messages[2];
    assert_eq!((&*others.payload.json, others.from.user.as_str()), (&b"null"[..], "bob"));
    assert_eq!(others.kind, Kind::Edit { target: 1 });
}

pub fn what_was_deleted_stays_deleted_by_nobody(store: &ErasureStore) {
    let chat = channel("chat:a");
    store.append(
        &chat,
        vec![draft("ann", "1"), delete("ann", "2", 1), draft("bob", "3"), delete("ann", "4", 3)],
    );
    store.erase("ann");
    let page = store.all(&chat);
    assert!([0, 1, 3].iter().all(|index| is_erased(&page.messages[*index])));
    let revisions: Vec<_> = [0, 2]
        .iter()
        .filter_map(|index| page.messages[*index].revision)
        .map(|one| (one.seq, one.deleted))
        .collect();
    assert_eq!(revisions, [(2, true), (4, true)]);
    assert_eq!(page.messages[2].from.user, user("bob"));
}

pub fn what_was_written_into_others_messages_goes(store: &ErasureStore) {
    let chat = channel("chat:a");
    store.append(&chat, vec![draft("bob", "1"), draft("bob", "2")]);
    store.append(
        &chat,
        vec![
            edit("ann", "3", 1, r#""hers""#),
            edit("ann", "4", 2, r#""hers""#),
            edit("bob", "5", 2, r#""his""#),
        ],
    );
    store.erase("ann");
    let page = store.all(&chat);
    assert!(page.messages[0].revision.is_some_and(|revision| revision.deleted));
    assert_eq!(&*page.messages[0].payload.json, b"null");
    assert_eq!(&*page.messages[1].payload.json, br#""his""#, "what was written over stays written over");
    assert!(is_erased(&page.messages[2]) && is_erased(&page.messages[3]));
    assert_eq!(page.messages[0].from.user, user("bob"));
}

pub fn places_stay(store: &ErasureStore) {
    let chat = channel("chat:a");
    store.append(&chat, vec![draft("ann", "1"), draft("bob", "2"), draft("ann", "3")]);
    let before = store.all(&chat);
    store.erase("ann");
    let page = store.all(&chat);
    assert_eq!((page.epoch, page.first, page.head), (before.epoch, 1, 3));
    let seqs = page.messages.iter().map(|message| message.seq());
    assert!(seqs.eq(1..=3));
    assert_eq!(store.append(&chat, vec![draft("bob", "4")])[0].seq(), 4);
}

pub fn personal_channels_begin_anew(store: &ErasureStore) {
    let own = ["@ann", "@ann/phone"].map(channel);
    let others = ["@anna", "@bob", "ann"].map(channel);
    for key in own.iter().chain(&others) {
        store.append(key, vec![draft("bob", "1"), draft("bob", "2")]);
    }
    let before = own.each_ref().map(|key| store.all(key).epoch);
    assert_eq!(store.erase("ann"), 4);
    for key in &others {
        assert!(store.all(key).messages.iter().all(|message| !is_erased(message)), "{key}");
    }
    for (key, before) in own.iter().zip(before) {
        let page = store.all(key);
        assert_eq!((page.head, page.messages.len()), (0, 0), "{key}");
        assert_ne!(page.epoch, before);
        let head = answer(|done| store.logs[0].heads(vec![key.clone()], done)).expect("heads")[0];
        assert_eq!((head.epoch, head.seq), (page.epoch, 0));
        let placed = store.append(key, vec![draft("bob", "1")]);
        assert_eq!(placed[0].position.map(|position| (position.epoch, position.seq)), Some((page.epoch, 1)));
    }
}

pub fn what_the_server_has_said_of_the_user_goes(store: &ErasureStore) {
    let (presence, chat) = (channel("$presence"), channel("chat:a"));
    let said = |id: &str, json: &str| draft_with("$", id, json);
    let drafts = vec![
        said("1", r#"{"user":"ann","state":"online","at":7}"#),
        said("2", r#"{"user":"bob","state":"online","at":7}"#),
        said("3", r#"{"at":7,"user":"\u0061nn"}"#),
        said("4", r#"["ann"]"#),
    ];
    store.append(&presence, drafts.clone());
    store.append(&chat, vec![draft_with("bob", "1", r#"{"user":"ann"}"#)]);
    assert_eq!(store.erase("ann"), 2);
    let erased = |key| store.all(key).messages.iter().map(|message| is_erased(message)).collect::<Vec<_>>();
    assert_eq!(erased(&presence), [true, false, true, false]);
    assert_eq!(erased(&chat), [false], "what others say is theirs");
}

pub fn apps_are_apart(store: &ErasureStore) {
    let other = channel_of("other", "chat:a");
    let own = ChannelKey::new(app("other"), Channel::personal(&user("ann"), None));
    store.append(&other, vec![draft("ann", "1")]);
    store.append(&own, vec![draft("bob", "1")]);
    store.append(&channel("chat:a"), vec![draft("ann", "1")]);
    assert_eq!(store.erase("ann"), 1);
    assert!([&other, &own].iter().all(|key| !is_erased(&store.all(key).messages[0])));
}

pub fn steps_come_to_an_end_however_much_there_is(store: &ErasureStore) {
    let channels: Vec<_> = (0..5).map(|number| channel(&format!("chat:{number}"))).collect();
    for key in &channels {
        let by = |id: u64| draft(if id.is_multiple_of(3) { "bob" } else { "ann" }, &id.to_string());
        store.append(key, (0..900).map(by).collect());
    }
    store.append(&channel("@ann"), (0..900).map(|id| draft("bob", &id.to_string())).collect());
    store.begin("ann");
    let (mut before, mut steps) = (Step::default(), 0);
    loop {
        let step = store.step(steps % 2, "ann");
        steps += 1;
        assert!(step.looked_at >= before.looked_at && step.looked_at <= step.of, "{step:?}");
        assert!(step.erased >= before.erased);
        before = step;
        if step.ended {
            break;
        }
    }
    assert_eq!((before.looked_at, before.erased), (before.of, 5 * 600 + 900));
    assert!(steps > 3, "small ones");
    let left = channels.iter().flat_map(|key| store.all(key).messages);
    assert_eq!(left.filter(|message| !is_erased(message)).count(), 5 * 300);
}

pub fn two_may_erase_at_once(store: &ErasureStore) {
    let chat = channel("chat:a");
    for from in ["ann", "bob"] {
        store.append(&chat, (0..600).map(|id| draft(from, &id.to_string())).collect());
    }
    store.begin("ann");
    thread::scope(|scope| {
        for handle in &store.handles {
            scope.spawn(move || while !step(handle, "ann").ended {});
        }
        for id in 0..20 {
            store.append(&chat, vec![draft("cid", &id.to_string())]);
        }
    });
    let page = store.all(&chat);
    assert_eq!(page.messages.iter().filter(|message| is_erased(message)).count(), 600);
    assert_eq!(page.head, 1220);
    assert_eq!(store.step(0, "ann").erased, 600, "each is counted once");
}

pub fn a_message_that_is_sent_again_takes_a_new_place(store: &ErasureStore) {
    let chat = channel("chat:a");
    store.append(&chat, vec![draft("ann", "1"), draft("bob", "1")]);
    store.erase("ann");
    assert_eq!(
        store
            .append(&chat, vec![draft("ann", "1"), draft("bob", "1")])
            .iter()
            .map(|one| one.seq())
            .collect::<Vec<_>>(),
        [3, 2]
    );
}

pub fn whoever_comes_again_is_not_erased(store: &ErasureStore) {
    let chat = channel("chat:a");
    store.append(&chat, vec![draft("ann", "1")]);
    store.erase("ann");
    store.append(&chat, vec![draft("ann", "2")]);
    assert!(store.step(0, "ann").ended);
    let page = store.all(&chat);
    assert!(is_erased(&page.messages[0]) && !is_erased(&page.messages[1]));
    assert_eq!(store.erase("ann"), 1, "what was erased is not counted again");
}

pub fn unread_counts_as_if_it_was_deleted(store: &ErasureStore) {
    let Some([markers, _]) = &store.markers else { return };
    let chat = channel("chat:a");
    store.append(&chat, vec![draft("cid", "1")]);
    let silent = Draft { kind: Kind::Silent, ..draft("ann", "0") };
    store.append(
        &chat,
        vec![
            draft("ann", "1"),
            draft("bob", "2"),
            silent,
            draft("ann", "3"),
            delete("ann", "4", 5),
            draft("bob", "5"),
            edit("ann", "6", 7, "1"),
        ],
    );
    let unread = || answer(|done| markers.unread(&chat, vec![user("cid")], done)).expect("counts")[0].1;
    assert_eq!(unread(), 3);
    store.erase("ann");
    assert_eq!(unread(), 1);
    let list =
        answer(|done| markers.conversations(&app("demo"), &user("cid"), None, 9, done)).expect("a list");
    assert_eq!(list[0].unread, 1);
    assert!(
        list[0]
            .last
            .as_ref()
            .is_some_and(|last| last.seq() == 7 && last.revision.is_some_and(|one| one.deleted))
    );
}

pub fn markers_go(store: &ErasureStore) {
    let Some([markers, others]) = &store.markers else { return };
    let (one, two, own) = (channel("chat:a"), channel_of("other", "chat:a"), channel("@ann"));
    store.append(&one, vec![draft("ann", "1"), draft("bob", "2")]);
    store.append(&two, vec![draft("ann", "1")]);
    store.append(&own, vec![draft("bob", "1")]);
    store.erase("ann");
    let of = |key: &ChannelKey| {
        let markers = answer(|done| others.of_channel(key, 9, done)).expect("markers");
        markers.into_iter().map(|(user, _)| user.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((of(&one), of(&two), of(&own)), (vec!["bob".to_owned()], vec!["ann".to_owned()], vec![]));
    let list = |name: &str| {
        answer(|done| markers.conversations(&app("demo"), &user(name), None, 9, done)).expect("a list")
    };
    assert_eq!((list("ann").len(), list("bob").len()), (0, 1));
}

/// Of a store that keeps a directory, too: `directories` are handles on it.
pub fn a_change_that_is_forgotten_is_a_gap(store: &ErasureStore, directories: &[Arc<dyn Directory>; 2]) {
    let [one, other] = directories;
    let key = |name: &str| Key::User(app("demo"), user(name));
    let apply = |name: &str, to| {
        let change = Change { key: key(name), expected: Expected::Any, to };
        answer(|done| one.apply(change, done)).expect("a change")
    };
    let changes = |since, limit| answer(|done| other.changes(since, limit, done)).expect("changes");
    let position = || changes(u64::MAX, 1).next;
    let start = position();
    for name in ["bob", "ann", "cy"] {
        apply(name, Some(Record::User(Box::default())));
    }
    apply("ann", None);
    let heard = position();
    assert_eq!(changes(start, 9).keys, ["bob", "ann", "cy", "ann"].map(key));
    store.erase("ann");
    // However little is asked for: nobody gets past what cannot be told without being told so.
    for limit in 1..=9 {
        let mut since = start;
        let gap = loop {
            let page = changes(since, limit);
            if page.gap {
                break page;
            }
            assert!(page.next > since && page.next < heard, "{limit} at a time: {page:?}");
            since = page.next;
        };
        assert_eq!((gap.keys, gap.next), (vec![], position()), "{limit} at a time");
    }
    assert!(!changes(heard, 9).gap, "who had heard of it has missed nothing");
    apply("bob", None);
    let unheard = changes(heard, 9);
    assert_eq!((unheard.keys, unheard.gap), (vec![key("bob")], false));
}

pub fn done_may_call_the_erasure(store: &ErasureStore) {
    let erasure = Arc::clone(&store.handles[0]);
    ends(move || {
        let again = Arc::clone(&erasure);
        let (sender, receiver) = std::sync::mpsc::channel();
        erasure.begin(
            &app("demo"),
            &user("ann"),
            7,
            Box::new(move |_| {
                let once_more = Arc::clone(&again);
                again.step(
                    &app("demo"),
                    &user("ann"),
                    Box::new(move |_| {
                        once_more.end(
                            &app("demo"),
                            &user("ann"),
                            Box::new(move |_| {
                                // The test may have given up.
                                let _ = sender.send(());
                            }),
                        );
                    }),
                );
            }),
        );
        receiver.recv().expect("the inner calls are answered");
    });
}
