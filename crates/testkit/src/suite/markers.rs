//! What every [`Markers`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::sync::{Arc, Barrier};
use std::thread;

use xpush_core::ports::Done;
use xpush_core::ports::markers::{Advanced, After, Conversation, Mark, Marker, Markers};
use xpush_core::ports::message_log::{Draft, MessageLog};
use xpush_core::{App, Channel, ChannelKey, Kind, Retention};

use crate::sample::{channel, channel_of, draft, draft_with, user};
use crate::suite::{answer, ends};

/// A new, empty store.
pub struct MarkerStore {
    /// Two handles on its markers, as two nodes have them.
    pub handles: [Arc<dyn Markers>; 2],
    /// The messages that they are about, through the same handles.
    pub logs: [Arc<dyn MessageLog>; 2],
    /// Lets so many ms pass, as the store counts them.
    pub pass: Box<dyn Fn(u64)>,
}

/// Makes each property of [`Markers`] a test; `$fixture` is a function that gives a [`MarkerStore`].
#[macro_export]
macro_rules! markers_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, markers:
            a_marker_begins_at_the_head_and_once
            an_advance_makes_a_marker
            a_marker_moves_forward_only
            what_is_read_is_delivered
            the_head_is_the_end
            who_publishes_has_read_it
            changes_and_retries_move_nobody
            messages_are_unread_and_nothing_else
            what_is_deleted_is_not_unread
            what_is_no_longer_kept_is_not_unread
            unread_leaves_out_who_has_no_marker
            one_marker_ends
            all_of_a_users_markers_end
            channels_and_apps_are_apart
            the_last_to_move_come_first
            conversations_are_listed_the_active_first
            conversations_come_in_pages
            a_conversation_tells_how_it_stands
            the_last_message_is_told_as_it_reads_now
            callers_at_once_never_move_it_back
            done_may_call_the_markers
        );
    };
}

/// Keeps whatever the suite writes.
const ROOMY: Retention = Retention { count: 100_000, bytes: 1 << 30, age_ms: 86_400_000 };

/// Callers at a time: more than cores, so that they are interrupted anywhere.
const THREADS: usize = 8;

impl MarkerStore {
    fn append(&self, channel: &ChannelKey, drafts: Vec<Draft>) {
        self.append_within(channel, ROOMY, drafts);
    }

    fn append_within(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>) {
        let appended =
            answer(|done| self.logs[0].append(channel, retention, drafts, done)).expect("an append");
        assert!(appended.failure.is_none() && appended.taken.iter().all(Result::is_ok), "{appended:?}");
    }

    /// Messages of `from` with the ids `ids`.
    fn say(&self, channel: &ChannelKey, from: &str, ids: impl Iterator<Item = u64>) {
        self.append(channel, ids.map(|id| draft(from, &id.to_string())).collect());
    }

    fn begin(&self, handle: usize, channel: &ChannelKey, id: &str) -> Marker {
        answer(|done| self.handles[handle].begin(channel, &user(id), done)).expect("begin")
    }

    fn advance(&self, handle: usize, channel: &ChannelKey, id: &str, mark: Mark, seq: u64) -> Advanced {
        answer(|done| self.handles[handle].advance(channel, &user(id), mark, seq, done)).expect("advance")
    }

    fn read(&self, channel: &ChannelKey, id: &str, seq: u64) -> Advanced {
        self.advance(0, channel, id, Mark::Read, seq)
    }

    fn end(&self, channel: Option<&Channel>, id: &str) {
        answer(|done| self.handles[0].end(&demo(), channel, &user(id), done)).expect("end");
    }

    /// As both handles tell it; the markers that moved last first.
    fn markers(&self, channel: &ChannelKey, limit: usize) -> Vec<(String, u64, u64)> {
        let [one, other] = [0, 1].map(|handle| {
            answer(|done| self.handles[handle].of_channel(channel, limit, done)).expect("markers")
        });
        assert_eq!(one, other);
        let plain = one.into_iter().map(|(user, marker)| {
            assert!(marker.read <= marker.delivered);
            (user.as_str().to_owned(), marker.delivered, marker.read)
        });
        plain.collect()
    }

    fn marker(&self, channel: &ChannelKey, id: &str) -> Option<(u64, u64)> {
        let markers = self.markers(channel, usize::MAX);
        markers.into_iter().find(|(user, ..)| user == id).map(|(_, delivered, read)| (delivered, read))
    }

    /// As everything that tells it tells it.
    fn unread(&self, channel: &ChannelKey, id: &str) -> Option<u64> {
        let counts = |handle: usize| {
            answer(|done| self.handles[handle].unread(channel, vec![user(id)], done)).expect("unread")
        };
        let [one, other] = [0, 1].map(counts);
        assert_eq!(one, other);
        let count = one.first().map(|(_, count)| *count);
        let listed = self.all(id).into_iter().find(|listed| listed.channel == channel.name);
        assert_eq!(listed.map(|listed| listed.unread), count, "`conversations` says the same");
        count
    }

    fn page(&self, id: &str, after: Option<After>, limit: usize) -> Vec<Conversation> {
        let [one, other] = [0, 1].map(|handle| {
            let list = |done: Done<_>| {
                self.handles[handle].conversations(&demo(), &user(id), after.clone(), limit, done);
            };
            answer(list).expect("conversations")
        });
        assert_eq!(one, other);
        one
    }

    fn all(&self, id: &str) -> Vec<Conversation> {
        self.page(id, None, usize::MAX)
    }

    fn names(&self, id: &str) -> Vec<String> {
        names(&self.all(id))
    }
}

fn demo() -> App {
    App::new("demo").expect("an app")
}

fn names(conversations: &[Conversation]) -> Vec<String> {
    conversations.iter().map(|conversation| conversation.channel.as_str().to_owned()).collect()
}

fn silent(from: &str, id: &str) -> Draft {
    Draft { kind: Kind::Silent, ..draft(from, id) }
}

fn edit(from: &str, id: &str, target: u64) -> Draft {
    Draft { kind: Kind::Edit { target }, ..draft(from, id) }
}

fn delete(from: &str, id: &str, target: u64) -> Draft {
    Draft { kind: Kind::Delete { target }, ..draft_with(from, id, "null") }
}

pub fn a_marker_begins_at_the_head_and_once(store: &MarkerStore) {
    let channel = channel("chat:a");
    assert_eq!(store.begin(0, &channel, "bob"), Marker::default());
    store.say(&channel, "ann", 1..=3);
    assert_eq!(store.begin(1, &channel, "cid"), Marker { delivered: 3, read: 3 });
    assert_eq!(store.begin(0, &channel, "bob"), Marker::default(), "it is there already");
    assert_eq!(store.marker(&channel, "cid"), Some((3, 3)));
    assert_eq!((store.unread(&channel, "bob"), store.unread(&channel, "cid")), (Some(3), Some(0)));
}

pub fn an_advance_makes_a_marker(store: &MarkerStore) {
    let (written, empty) = (channel("chat:a"), channel("chat:b"));
    store.say(&written, "ann", 1..=3);
    let advanced = store.advance(1, &written, "bob", Mark::Delivered, 2);
    assert_eq!(advanced, Advanced { marker: Marker { delivered: 2, read: 0 }, moved: true, unread: 3 });
    assert_eq!(store.marker(&written, "bob"), Some((2, 0)));
    assert_eq!(store.read(&empty, "bob", 5).marker, Marker::default());
    assert_eq!(store.marker(&empty, "bob"), Some((0, 0)));
}

pub fn a_marker_moves_forward_only(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.say(&channel, "ann", 1..=9);
    let mut expected = Marker::default();
    for (handle, mark, seq) in [
        (0, Mark::Delivered, 4),
        (1, Mark::Delivered, 3),
        (0, Mark::Read, 2),
        (1, Mark::Read, 2),
        (1, Mark::Read, 6),
        (0, Mark::Delivered, 6),
        (0, Mark::Read, 0),
        (1, Mark::Delivered, 9),
    ] {
        let before = expected;
        expected.delivered = before.delivered.max(seq);
        if mark == Mark::Read {
            expected.read = before.read.max(seq);
        }
        let Advanced { marker, moved, unread } = store.advance(handle, &channel, "bob", mark, seq);
        assert_eq!((marker, moved), (expected, expected != before), "{mark:?} {seq}");
        assert_eq!(unread, 9 - expected.read);
        assert_eq!(store.marker(&channel, "bob"), Some((expected.delivered, expected.read)));
    }
}

pub fn what_is_read_is_delivered(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.say(&channel, "ann", 1..=5);
    store.advance(0, &channel, "bob", Mark::Delivered, 4);
    assert_eq!(store.read(&channel, "bob", 3).marker, Marker { delivered: 4, read: 3 });
    assert_eq!(store.read(&channel, "bob", 5).marker, Marker { delivered: 5, read: 5 });
}

pub fn the_head_is_the_end(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.say(&channel, "ann", 1..=3);
    for (id, mark) in [("bob", Mark::Read), ("cid", Mark::Delivered)] {
        assert_eq!(store.advance(0, &channel, id, mark, u64::MAX).marker.delivered, 3);
    }
    store.say(&channel, "ann", 4..=4);
    assert_eq!(store.unread(&channel, "bob"), Some(1));
}

pub fn who_publishes_has_read_it(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.append(&channel, vec![draft("ann", "1"), draft("bob", "2"), draft("ann", "3"), draft("bob", "4")]);
    assert_eq!(store.marker(&channel, "ann"), Some((3, 3)));
    assert_eq!(store.marker(&channel, "bob"), Some((4, 4)));
    assert_eq!((store.unread(&channel, "ann"), store.unread(&channel, "bob")), (Some(1), Some(0)));
    store.append(&channel, vec![silent("ann", "5")]);
    assert_eq!(store.marker(&channel, "ann"), Some((5, 5)));
    assert_eq!(store.unread(&channel, "ann"), Some(0));
}

pub fn changes_and_retries_move_nobody(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.say(&channel, "ann", 1..=2);
    store.say(&channel, "bob", 3..=3);
    store.append(&channel, vec![edit("ann", "e", 1), delete("ann", "d", 2), draft("ann", "1")]);
    assert_eq!(store.marker(&channel, "ann"), Some((2, 2)));
    assert_eq!(store.read(&channel, "ann", 5).unread, 0);
    // A retry of an old message does not move it back either.
    store.append(&channel, vec![draft("ann", "1")]);
    assert_eq!(store.marker(&channel, "ann"), Some((5, 5)));
}

pub fn messages_are_unread_and_nothing_else(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.begin(0, &channel, "bob");
    for (next, unread) in [
        (draft("ann", "1"), 1),
        (silent("ann", "2"), 1),
        (edit("ann", "3", 1), 1),
        (draft("ann", "4"), 2),
        (draft("ann", "4"), 2),
        (edit("ann", "6", 4), 2),
    ] {
        store.append(&channel, vec![next]);
        assert_eq!(store.unread(&channel, "bob"), Some(unread));
    }
    for (seq, unread) in [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)] {
        assert_eq!(store.read(&channel, "bob", seq).unread, unread);
        assert_eq!(store.unread(&channel, "bob"), Some(unread));
    }
}

pub fn what_is_deleted_is_not_unread(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.say(&channel, "ann", 1..=4);
    store.append(&channel, vec![silent("ann", "5")]);
    store.begin(0, &channel, "all");
    for (id, seq) in [("none", 0), ("one", 1), ("two", 2)] {
        store.read(&channel, id, seq);
    }
    let unread = || ["none", "one", "two", "all"].map(|id| store.unread(&channel, id).expect("a marker"));
    assert_eq!(unread(), [4, 3, 2, 0]);
    for (target, expected) in [(2, [3, 2, 2, 0]), (5, [3, 2, 2, 0]), (1, [2, 2, 2, 0]), (4, [1, 1, 1, 0])] {
        store.append(&channel, vec![delete("ann", &format!("d{target}"), target)]);
        assert_eq!(unread(), expected, "without {target}");
    }
    // Who reads on comes behind what was deleted.
    assert_eq!(store.read(&channel, "none", 2).unread, 1);
    assert_eq!(store.read(&channel, "none", 3).unread, 0);
}

pub fn what_is_no_longer_kept_is_not_unread(store: &MarkerStore) {
    let channel = channel("chat:a");
    let retention = Retention { count: 5, age_ms: 1000, ..ROOMY };
    store.begin(0, &channel, "bob");
    for id in 1..=8 {
        store.append_within(&channel, retention, vec![draft("ann", &id.to_string())]);
        assert_eq!(store.unread(&channel, "bob"), Some(id.min(5)));
    }
    store.append_within(&channel, retention, vec![delete("ann", "d", 6)]);
    // 5 to 9 are kept; 6 is deleted and 9 deletes it.
    assert_eq!(store.unread(&channel, "bob"), Some(3));
    (store.pass)(600);
    store.append_within(&channel, retention, vec![draft("ann", "10")]);
    assert_eq!(store.unread(&channel, "bob"), Some(3));
    (store.pass)(600);
    assert_eq!(store.unread(&channel, "bob"), Some(1), "nothing was written, and time has passed");
}

pub fn unread_leaves_out_who_has_no_marker(store: &MarkerStore) {
    let channel = channel("chat:a");
    let ask = |ids: &[&str]| {
        let users = ids.iter().map(|id| user(id)).collect();
        answer(|done| store.handles[1].unread(&channel, users, done)).expect("unread")
    };
    assert_eq!(ask(&["ann"]), []);
    store.say(&channel, "ann", 1..=3);
    store.read(&channel, "bob", 1);
    assert_eq!(ask(&["bob", "nobody", "ann"]), [(user("bob"), 2), (user("ann"), 0)]);
    assert_eq!(ask(&[]), []);
}

pub fn one_marker_ends(store: &MarkerStore) {
    let (one, other) = (channel("chat:a"), channel("chat:b"));
    for channel in [&one, &other] {
        store.begin(0, channel, "ann");
        store.begin(0, channel, "bob");
    }
    store.end(Some(&one.name), "ann");
    store.end(Some(&one.name), "ann");
    store.end(Some(&channel("chat:none").name), "ann");
    assert_eq!(store.names("ann"), ["chat:b"]);
    assert_eq!((store.unread(&one, "ann"), store.marker(&one, "ann")), (None, None));
    assert_eq!(store.names("bob"), ["chat:b", "chat:a"]);
}

pub fn all_of_a_users_markers_end(store: &MarkerStore) {
    let elsewhere = channel_of("other", "chat:a");
    for name in ["chat:a", "chat:b", "chat:c"] {
        store.begin(0, &channel(name), "ann");
        store.begin(0, &channel(name), "bob");
    }
    store.begin(0, &elsewhere, "ann");
    store.end(None, "ann");
    assert_eq!(store.names("ann"), [""; 0]);
    assert_eq!(store.names("bob").len(), 3);
    assert!(store.marker(&elsewhere, "ann").is_some());
}

pub fn channels_and_apps_are_apart(store: &MarkerStore) {
    let (one, other, elsewhere) = (channel("chat:a"), channel("chat:b"), channel_of("other", "chat:a"));
    store.say(&one, "ann", 1..=3);
    store.say(&other, "ann", 1..=5);
    store.say(&elsewhere, "ann", 1..=7);
    for (channel, seq) in [(&one, 1), (&other, 2)] {
        assert_eq!(store.read(channel, "bob", seq).marker.read, seq);
    }
    assert_eq!(store.marker(&elsewhere, "bob"), None);
    assert_eq!((store.unread(&one, "bob"), store.unread(&other, "bob")), (Some(2), Some(3)));
    assert_eq!(store.names("bob"), ["chat:b", "chat:a"]);
}

pub fn the_last_to_move_come_first(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.say(&channel, "ann", 1..=3);
    for id in ["bob", "cid", "dan"] {
        store.read(&channel, id, 1);
    }
    let order = |limit| store.markers(&channel, limit).into_iter().map(|(id, ..)| id).collect::<Vec<_>>();
    assert_eq!(order(9), ["dan", "cid", "bob", "ann"]);
    store.advance(1, &channel, "bob", Mark::Delivered, 2);
    // Moves nothing.
    store.read(&channel, "cid", 1);
    assert_eq!(order(9), ["bob", "dan", "cid", "ann"]);
    store.say(&channel, "cid", 4..=4);
    assert_eq!(order(9), ["cid", "bob", "dan", "ann"]);
    assert_eq!((order(2), order(0)), (vec!["cid".to_owned(), "bob".to_owned()], Vec::new()));
}

pub fn conversations_are_listed_the_active_first(store: &MarkerStore) {
    for name in ["chat:a", "chat:c", "chat:b"] {
        store.begin(0, &channel(name), "bob");
    }
    assert_eq!(store.names("bob"), ["chat:c", "chat:b", "chat:a"], "at the same time: by name, descending");
    for name in ["chat:b", "chat:a", "chat:b"] {
        (store.pass)(10);
        let id = store.all("bob").iter().map(|conversation| conversation.head).sum::<u64>();
        store.say(&channel(name), "ann", id..=id);
        assert_eq!(store.names("bob")[0], name);
    }
    assert_eq!(store.names("bob"), ["chat:b", "chat:a", "chat:c"]);
    // Reading is no activity.
    (store.pass)(10);
    store.read(&channel("chat:a"), "bob", 1);
    assert_eq!(store.names("bob"), ["chat:b", "chat:a", "chat:c"]);
    assert_eq!(store.names("ann"), ["chat:b", "chat:a"], "who has published is in it");
}

pub fn conversations_come_in_pages(store: &MarkerStore) {
    for number in 0..17 {
        // Four at a time.
        if number % 4 == 0 {
            (store.pass)(5);
        }
        store.say(&channel(&format!("chat:{number}")), "ann", 1..=1);
        store.begin(0, &channel(&format!("chat:{number}")), "bob");
    }
    let all = store.all("bob");
    assert_eq!(all.len(), 17);
    let place = |conversation: &Conversation| (conversation.active_at, conversation.channel.clone());
    assert!(all.is_sorted_by(|one, next| place(one) > place(next)), "{:?}", names(&all));
    for limit in [1, 3, 4, 16, 17, 18] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = store.page("bob", after.clone(), limit);
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(place(last));
            paged.extend(page);
        }
        assert_eq!(paged, all, "{limit} at a time");
    }
}

pub fn a_conversation_tells_how_it_stands(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.begin(0, &channel, "bob");
    let made = store.all("bob").remove(0);
    assert_eq!((made.head, made.unread, made.last), (0, 0, None));
    (store.pass)(1000);
    store.say(&channel, "ann", 1..=3);
    store.advance(0, &channel, "bob", Mark::Delivered, 2);
    store.read(&channel, "bob", 1);
    let told = store.all("bob").remove(0);
    let head = answer(|done| store.logs[1].heads(vec![channel.clone()], done)).expect("heads")[0];
    assert_eq!((told.channel.clone(), told.epoch, told.head), (channel.name.clone(), head.epoch, head.seq));
    assert_eq!((told.marker, told.unread), (Marker { delivered: 2, read: 1 }, 2));
    assert_eq!(told.active_at, made.active_at + 1000);
    let last = told.last.expect("is kept");
    assert_eq!((last.seq(), last.id.as_str()), (3, "3"));
}

pub fn the_last_message_is_told_as_it_reads_now(store: &MarkerStore) {
    let channel = channel("chat:a");
    store.begin(0, &channel, "bob");
    let last = || {
        let last = store.all("bob").remove(0).last?;
        let json = String::from_utf8_lossy(&last.payload.json).into_owned();
        Some((last.seq(), json, last.revision.map(|revision| (revision.seq, revision.deleted))))
    };
    store.append(&channel, vec![draft("ann", "1"), silent("ann", "2")]);
    assert_eq!(last(), Some((2, "\"2\"".to_owned(), None)), "silent ones are messages");
    store.append(&channel, vec![edit("ann", "3", 2), edit("ann", "4", 1)]);
    assert_eq!(last(), Some((2, "\"3\"".to_owned(), Some((3, false)))));
    store.append(&channel, vec![delete("ann", "5", 2)]);
    assert_eq!(last(), Some((2, "null".to_owned(), Some((5, true)))));
    // Slot 6 is all that is kept, and it is no message.
    store.append_within(&channel, Retention { count: 1, ..ROOMY }, vec![edit("ann", "6", 1)]);
    assert_eq!(last(), None);
}

pub fn callers_at_once_never_move_it_back(store: &MarkerStore) {
    const EACH: u64 = 50;
    let channel = channel("chat:a");
    store.say(&channel, "ann", 1..=THREADS as u64 * EACH);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for (thread, markers) in (0..THREADS as u64).zip(store.handles.iter().cycle()) {
            let (barrier, channel) = (&barrier, &channel);
            scope.spawn(move || {
                barrier.wait();
                let mut before = Marker::default();
                for round in 0..EACH {
                    let seq = round * THREADS as u64 + thread;
                    let advance = |done: Done<_>| {
                        markers.advance(channel, &user("bob"), Mark::Read, seq, done);
                    };
                    let Advanced { marker, .. } = answer(advance).expect("advance");
                    assert!(marker.read >= seq && marker.read >= before.read);
                    before = marker;
                }
            });
        }
    });
    let last = THREADS as u64 * EACH - 1;
    assert_eq!(store.marker(&channel, "bob"), Some((last, last)));
    assert_eq!(store.unread(&channel, "bob"), Some(1));
}

pub fn done_may_call_the_markers(store: &MarkerStore) {
    let markers = Arc::clone(&store.handles[0]);
    ends(move || {
        let channel = channel("chat:a");
        let unread = answer(|done: Done<_>| {
            let again = Arc::clone(&markers);
            let key = channel.clone();
            let begun = move |_| {
                let last = Arc::clone(&again);
                let of = key.clone();
                let advanced = move |_| last.unread(&of, vec![user("ann")], done);
                again.advance(&key, &user("ann"), Mark::Read, 1, Box::new(advanced));
            };
            markers.begin(&channel, &user("ann"), Box::new(begun));
        });
        assert_eq!(unread, Ok(vec![(user("ann"), 0)]));
    });
}
