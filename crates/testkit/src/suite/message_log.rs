//! What every [`MessageLog`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

pub mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Placed, Range, Refused};
use xpush_core::ports::{Done, Failure};
use xpush_core::{ChannelKey, EventName, Kind, Message, Payload, Position, Retention, Sender};

use crate::sample::{channel, channel_of, draft, draft_with, user};
use crate::suite::{PATIENCE, Until, answer, ends};

/// A new, empty store.
pub struct LogStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn MessageLog>; 2],
    /// Lets so many ms pass, as the store counts them.
    pub pass: Box<dyn Fn(u64)>,
    /// Bytes of data in one message that the store refuses; `None` when it takes any that fit into memory.
    pub too_large: Option<usize>,
}

/// Makes each property of a [`MessageLog`] a test; `$fixture` is a function that gives a [`LogStore`].
#[macro_export]
macro_rules! message_log_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, message_log:
            a_channel_that_was_never_written_is_empty
            places_are_counted_from_1
            a_message_is_kept_as_it_was_given
            a_placed_message_is_visible_on_every_handle
            a_place_is_given_once
            a_client_id_is_placed_once
            a_retry_is_answered_with_the_first_message
            a_retry_is_known_within_one_call
            a_retry_of_the_oldest_kept_message_is_known
            an_id_belongs_to_its_sender_and_channel
            an_append_of_nothing_changes_nothing
            an_append_stops_at_the_first_failure
            channels_are_apart
            every_range_of_a_whole_history
            every_range_of_a_history_that_lost_its_beginning
            a_history_is_bounded_by_count
            a_history_is_bounded_by_bytes
            a_history_is_bounded_by_age
            age_is_not_taken_from_the_message
            bounds_may_change
            the_newest_message_stays
            a_channel_that_was_quiet_for_days_is_written_on
            heads_come_in_the_order_asked_for
            the_epoch_stays
            a_reader_meets_no_hole_while_others_write
            who_yields_has_lost_nothing
            done_may_call_the_log
        );
        $crate::edits_suite!($fixture);
    };
}

/// Keeps whatever the suite writes.
const ROOMY: Retention = Retention { count: 100_000, bytes: 1 << 30, age_ms: 86_400_000 };

/// Callers at a time: more than cores, so that they are interrupted anywhere.
const THREADS: usize = 8;

impl LogStore {
    fn append(&self, handle: usize, channel: &ChannelKey, drafts: Vec<Draft>) -> Vec<Placed> {
        self.append_within(handle, channel, ROOMY, drafts)
    }

    fn append_within(
        &self,
        handle: usize,
        channel: &ChannelKey,
        retention: Retention,
        drafts: Vec<Draft>,
    ) -> Vec<Placed> {
        let count = drafts.len();
        let Appended { taken, failure } = append(&self.handles[handle], channel, retention, drafts);
        assert_eq!(failure, None);
        let placed = placed(taken);
        assert_eq!(placed.len(), count);
        placed
    }

    /// Appends messages with the ids `ids`, one call each.
    fn fill(&self, channel: &ChannelKey, retention: Retention, ids: impl Iterator<Item = u64>) {
        for id in ids {
            self.append_within(0, channel, retention, vec![draft("ann", &id.to_string())]);
        }
    }

    fn read(&self, handle: usize, channel: &ChannelKey, range: Range, limit: usize) -> Page {
        read(&self.handles[handle], channel, range, limit)
    }

    fn all(&self, handle: usize, channel: &ChannelKey) -> Page {
        self.read(handle, channel, Range::After(0), usize::MAX)
    }

    fn heads(&self, handle: usize, channels: &[ChannelKey]) -> Vec<Position> {
        answer(|done| self.handles[handle].heads(channels.to_vec(), done)).expect("heads")
    }

    fn head(&self, handle: usize, channel: &ChannelKey) -> Position {
        self.heads(handle, std::slice::from_ref(channel))[0]
    }

    /// The smallest seq and the newest one.
    fn bounds(&self, channel: &ChannelKey) -> (u64, u64) {
        let page = self.all(1, channel);
        let expected: Vec<u64> = (page.first..=page.head).collect();
        assert_eq!(seqs(&page), expected, "what is kept is from `first` to `head`, without holes");
        (page.first, page.head)
    }
}

fn placed(taken: Vec<Result<Placed, Refused>>) -> Vec<Placed> {
    taken.into_iter().map(|taken| taken.expect("takes a place")).collect()
}

pub fn a_channel_that_was_never_written_is_empty(store: &LogStore) {
    let channel = channel("chat:a");
    for range in [Range::After(0), Range::After(7), Range::Before(0), Range::Before(7), Range::Newest] {
        let page = store.read(0, &channel, range, 10);
        assert_eq!((page.first, page.head, page.messages.len()), (1, 0, 0), "{range:?}");
        assert_eq!(store.head(1, &channel), Position { epoch: page.epoch, seq: 0 });
    }
}

pub fn places_are_counted_from_1(store: &LogStore) {
    let channel = channel("chat:a");
    let mut placed = store.append(0, &channel, vec![draft("ann", "1"), draft("bob", "2")]);
    placed.extend(store.append(1, &channel, vec![draft("ann", "3")]));
    let epoch = store.head(0, &channel).epoch;
    for (seq, Placed { message, retry }) in (1..).zip(&placed) {
        assert_eq!(message.position, Some(Position { epoch, seq }));
        assert_eq!(message.id.as_str(), seq.to_string());
        assert!(!retry);
    }
    assert_eq!(store.head(1, &channel), Position { epoch, seq: 3 });
}

pub fn a_message_is_kept_as_it_was_given(store: &LogStore) {
    let channel = channel_of("demo", "chat:방/1");
    let payload = Payload {
        json: Bytes::from_static(br#"{"a":{"_placeholder":true,"num":1},"b":"\u0000"}"#),
        attachments: vec![Bytes::new(), Bytes::from_static(&[0, 255, 10, 13])],
    };
    let from = Sender { user: user("u:1 \"é\""), name: Some(Arc::from("Ann 🙂")) };
    let mut draft = draft("ann", "an id, with anything in it");
    draft.event = EventName::new("évent").expect("a name");
    (draft.payload, draft.from, draft.at) = (payload.clone(), from.clone(), 42);
    let placed = store.append(0, &channel, vec![draft.clone()]);
    let expected = Message {
        kind: Kind::Message,
        revision: None,
        channel: channel.clone(),
        position: Some(Position { epoch: store.all(0, &channel).epoch, seq: 1 }),
        id: draft.id,
        event: draft.event,
        payload,
        from,
        at: 42,
    };
    assert_eq!(*placed[0].message, expected);
    for handle in [0, 1] {
        assert_eq!(*store.all(handle, &channel).messages[0], expected);
    }
}

pub fn a_placed_message_is_visible_on_every_handle(store: &LogStore) {
    let channel = channel("chat:a");
    for seq in 1..=200 {
        let (writer, reader) = (usize::from(seq % 2 == 0), usize::from(seq % 3 == 0));
        let placed = store.append(writer, &channel, vec![draft("ann", &seq.to_string())]);
        let page = store.read(reader, &channel, Range::Newest, 1);
        assert_eq!(page.messages, [Arc::clone(&placed[0].message)]);
        assert_eq!(store.head(reader, &channel).seq, seq);
    }
}

pub fn a_place_is_given_once(store: &LogStore) {
    const CALLS: usize = 50;
    const DRAFTS: usize = 3;
    let channel = channel("chat:a");
    let placed = together(store, |log, thread| {
        let call = |call| {
            let ids = (0..DRAFTS).map(|place| format!("{thread}-{call}-{place}"));
            let drafts: Vec<Draft> = ids.map(|id| draft("ann", &id)).collect();
            let asked: Vec<_> = drafts.iter().map(|draft| draft.id.clone()).collect();
            let placed = placed(append_in_the_end(log, &channel, ROOMY, drafts));
            let given: Vec<_> = placed.iter().map(|placed| placed.message.id.clone()).collect();
            assert_eq!(given, asked, "one place a draft, in the order of the drafts");
            assert!(placed.is_sorted_by_key(|placed| placed.message.seq()), "ascending within a call");
            placed
        };
        (0..CALLS).flat_map(call).collect::<Vec<_>>()
    });
    let placed: Vec<Placed> = placed.into_iter().flatten().collect();
    assert!(placed.iter().all(|placed| !placed.retry));
    let by_seq: BTreeMap<u64, Arc<Message>> =
        placed.into_iter().map(|placed| (placed.message.seq(), placed.message)).collect();
    let count = (THREADS * CALLS * DRAFTS) as u64;
    assert!(by_seq.keys().copied().eq(1..=count), "each of 1 to {count} once");
    assert_eq!(store.all(1, &channel).messages, by_seq.into_values().collect::<Vec<_>>());
}

pub fn a_client_id_is_placed_once(store: &LogStore) {
    const IDS: usize = 100;
    let channel = channel("chat:a");
    // All callers send the same ids, each with its own data: whose comes first is what all are told.
    let placed = together(store, |log, thread| {
        let call = |id: usize| {
            let drafts = vec![draft_with("ann", &id.to_string(), &thread.to_string())];
            placed(append_in_the_end(log, &channel, ROOMY, drafts)).remove(0)
        };
        (0..IDS).map(call).collect::<Vec<_>>()
    });
    for id in 0..IDS {
        let answers: Vec<&Placed> = placed.iter().map(|of_thread| &of_thread[id]).collect();
        assert_eq!(answers.iter().filter(|placed| !placed.retry).count(), 1, "one caller places {id}");
        assert!(
            answers.iter().all(|placed| placed.message == answers[0].message),
            "all are told the same of {id}"
        );
    }
    assert_eq!(store.bounds(&channel), (1, IDS as u64));
}

pub fn a_retry_is_answered_with_the_first_message(store: &LogStore) {
    let channel = channel("chat:a");
    let first = store.append(0, &channel, vec![draft_with("ann", "x", "1"), draft("ann", "y")]);
    let mut again = draft_with("ann", "x", "2");
    again.at += 1000;
    let placed = store.append(1, &channel, vec![draft("ann", "before"), again, draft("ann", "after")]);
    assert_eq!(placed[1], Placed { message: Arc::clone(&first[0].message), retry: true });
    assert_eq!(placed[1].message.payload.json, "1");
    assert_eq!([placed[0].message.seq(), placed[2].message.seq()], [3, 4]);
    assert!(!placed[0].retry && !placed[2].retry);
    assert_eq!(store.bounds(&channel), (1, 4));
}

pub fn a_retry_is_known_within_one_call(store: &LogStore) {
    let channel = channel("chat:a");
    let placed = store.append(0, &channel, vec![draft_with("ann", "x", "1"), draft_with("ann", "x", "2")]);
    assert_eq!(placed[1], Placed { message: Arc::clone(&placed[0].message), retry: true });
    assert_eq!(store.bounds(&channel), (1, 1));
}

pub fn a_retry_of_the_oldest_kept_message_is_known(store: &LogStore) {
    let channel = channel("chat:a");
    store.fill(&channel, Retention { count: 5, ..ROOMY }, 1..=20);
    let (first, head) = store.bounds(&channel);
    for seq in first..=head {
        let placed = store.append_within(
            1,
            &channel,
            Retention { count: 5, ..ROOMY },
            vec![draft("ann", &seq.to_string())],
        );
        assert_eq!((placed[0].message.seq(), placed[0].retry), (seq, true));
    }
    assert_eq!(store.bounds(&channel), (first, head));
}

pub fn an_id_belongs_to_its_sender_and_channel(store: &LogStore) {
    for (channel, from, seq) in [
        (channel("chat:a"), "ann", 1),
        (channel("chat:a"), "bob", 2),
        (channel("chat:b"), "ann", 1),
        (channel_of("other", "chat:a"), "ann", 1),
    ] {
        let placed = store.append(0, &channel, vec![draft(from, "x")]);
        assert_eq!((placed[0].message.seq(), placed[0].retry), (seq, false), "{channel} {from}");
    }
    // Where one name ends and the next begins counts.
    let channel = channel("chat:c");
    let placed = store.append(0, &channel, vec![draft("ab", "c"), draft("a", "bc")]);
    assert!(!placed[1].retry);
}

pub fn an_append_of_nothing_changes_nothing(store: &LogStore) {
    let channel = channel("chat:a");
    let before = store.all(0, &channel);
    assert!(store.append(0, &channel, Vec::new()).is_empty());
    assert_eq!(store.all(1, &channel), before);
    store.fill(&channel, ROOMY, 1..=3);
    assert!(store.append(0, &channel, Vec::new()).is_empty());
    assert_eq!(store.bounds(&channel), (1, 3));
}

pub fn an_append_stops_at_the_first_failure(store: &LogStore) {
    let Some(too_large) = store.too_large else { return };
    let channel = channel("chat:a");
    let refused = || draft_with("ann", "refused", &"1".repeat(too_large));
    let Appended { taken, failure } =
        append(&store.handles[0], &channel, ROOMY, vec![refused(), draft("ann", "1")]);
    assert_eq!((taken.len(), failure.is_some()), (0, true));
    assert_eq!(store.all(1, &channel).head, 0);

    let drafts = vec![draft("ann", "1"), draft("ann", "2"), refused(), draft("ann", "3"), refused()];
    let Appended { taken, failure } = append(&store.handles[0], &channel, ROOMY, drafts);
    let placed = placed(taken);
    let placed: Vec<_> =
        placed.iter().map(|placed| (placed.message.id.as_str(), placed.message.seq())).collect();
    assert_eq!(placed, [("1", 1), ("2", 2)]);
    assert!(failure.is_some());
    assert_eq!(store.bounds(&channel), (1, 2));

    // What was not tried was not marked as known either.
    let placed = store.append(1, &channel, vec![draft("ann", "3")]);
    assert_eq!((placed[0].message.seq(), placed[0].retry), (3, false));
}

pub fn channels_are_apart(store: &LogStore) {
    let channels =
        [channel("chat:a"), channel("chat:b"), channel_of("other", "chat:a"), channel_of("demoo", "chat:a")];
    for (count, channel) in (1..).zip(&channels) {
        store.fill(channel, ROOMY, 1..=count);
    }
    for (count, channel) in (1..).zip(&channels) {
        assert_eq!(store.bounds(channel), (1, count));
        assert!(store.all(0, channel).messages.iter().all(|message| message.channel == *channel));
    }
}

pub fn every_range_of_a_whole_history(store: &LogStore) {
    let channel = channel("chat:a");
    store.fill(&channel, ROOMY, 1..=12);
    assert_eq!(store.bounds(&channel), (1, 12));
    every_range(store, &channel);
}

pub fn every_range_of_a_history_that_lost_its_beginning(store: &LogStore) {
    let channel = channel("chat:a");
    store.fill(&channel, Retention { count: 5, ..ROOMY }, 1..=12);
    assert_eq!(store.bounds(&channel), (8, 12));
    every_range(store, &channel);
}

pub fn a_history_is_bounded_by_count(store: &LogStore) {
    let channel = channel("chat:a");
    let retention = Retention { count: 3, ..ROOMY };
    for (appended, first) in (1..=6).zip([1, 1, 1, 2, 3, 4]) {
        store.fill(&channel, retention, appended..=appended);
        assert_eq!(store.bounds(&channel), (first, appended));
    }
    let many = (10..20).map(|id| draft("ann", &id.to_string())).collect();
    assert_eq!(store.append_within(0, &channel, retention, many).len(), 10);
    assert_eq!(store.bounds(&channel), (14, 16));
}

pub fn a_history_is_bounded_by_bytes(store: &LogStore) {
    let channel = channel("chat:a");
    // 7 bytes of `message`, 13 of data, 20 in an attachment: 40 each.
    let sized = |id: u64| {
        let mut draft = draft_with("ann", &id.to_string(), &"1".repeat(13));
        draft.payload.attachments = vec![Bytes::from_static(&[0; 15]), Bytes::from_static(&[0; 5])];
        vec![draft]
    };
    for (id, first) in (1..=5).zip([1, 1, 1, 2, 3]) {
        store.append_within(0, &channel, Retention { bytes: 120, ..ROOMY }, sized(id));
        assert_eq!(store.bounds(&channel), (first, id));
    }
    // One byte less has room for two.
    store.append_within(0, &channel, Retention { bytes: 119, ..ROOMY }, sized(6));
    assert_eq!(store.bounds(&channel), (5, 6));
}

pub fn a_history_is_bounded_by_age(store: &LogStore) {
    let channel = channel("chat:a");
    let retention = Retention { age_ms: 1000, ..ROOMY };
    for id in 1..=4 {
        store.fill(&channel, retention, id..=id);
        (store.pass)(300);
    }
    // Placed 1200, 900, 600 and 300 ms ago. Nothing was written since: reading finds it.
    assert_eq!(store.bounds(&channel), (2, 4));
    (store.pass)(300);
    assert_eq!(store.bounds(&channel), (3, 4));
    store.fill(&channel, retention, 5..=5);
    (store.pass)(900);
    assert_eq!(store.bounds(&channel), (5, 5));
}

pub fn age_is_not_taken_from_the_message(store: &LogStore) {
    // `at` is another node's time of day: it may be wrong by years.
    let channel = channel("chat:a");
    for (id, at) in [("1", 0), ("2", u64::MAX), ("3", 1)] {
        let mut draft = draft("ann", id);
        draft.at = at;
        store.append_within(0, &channel, Retention { age_ms: 1000, ..ROOMY }, vec![draft]);
    }
    assert_eq!(store.bounds(&channel), (1, 3));
    (store.pass)(1001);
    assert_eq!(store.bounds(&channel), (3, 3));
}

pub fn bounds_may_change(store: &LogStore) {
    let channel = channel("chat:a");
    store.fill(&channel, Retention { count: 10, ..ROOMY }, 1..=10);
    store.fill(&channel, Retention { count: 3, ..ROOMY }, 11..=11);
    assert_eq!(store.bounds(&channel), (9, 11));
    store.fill(&channel, Retention { count: 10, ..ROOMY }, 12..=13);
    assert_eq!(store.bounds(&channel), (9, 13));
    // Of age alike, whether anybody has looked at it meanwhile or not.
    store.fill(&channel, Retention { age_ms: 1000, ..ROOMY }, 14..=14);
    (store.pass)(600);
    store.fill(&channel, Retention { age_ms: 1000, ..ROOMY }, 15..=15);
    (store.pass)(600);
    store.fill(&channel, Retention { age_ms: 5000, ..ROOMY }, 16..=16);
    assert_eq!(store.bounds(&channel), (15, 16));
}

pub fn the_newest_message_stays(store: &LogStore) {
    for (name, retention) in [
        ("chat:count", Retention { count: 1, ..ROOMY }),
        ("chat:bytes", Retention { bytes: 1, ..ROOMY }),
        ("chat:age", Retention { age_ms: 1, ..ROOMY }),
    ] {
        let channel = channel(name);
        store.fill(&channel, retention, 1..=5);
        (store.pass)(10_000_000);
        assert_eq!(store.bounds(&channel), (5, 5), "{name}");
        store.fill(&channel, retention, 6..=6);
        assert_eq!(store.bounds(&channel), (6, 6), "{name}");
    }
}

pub fn a_channel_that_was_quiet_for_days_is_written_on(store: &LogStore) {
    let channel = channel("chat:a");
    let retention = Retention { age_ms: 1000, ..ROOMY };
    store.fill(&channel, retention, 1..=3);
    let epoch = store.head(0, &channel).epoch;
    (store.pass)(49 * 3_600_000);
    assert_eq!(store.bounds(&channel), (3, 3));
    let placed = store.append_within(1, &channel, retention, vec![draft("ann", "4")]);
    assert_eq!(placed[0].message.position, Some(Position { epoch, seq: 4 }));
    assert_eq!(store.bounds(&channel), (4, 4));
}

pub fn heads_come_in_the_order_asked_for(store: &LogStore) {
    let [a, b, none] = ["chat:a", "chat:b", "chat:none"].map(channel);
    store.fill(&a, ROOMY, 1..=3);
    store.fill(&b, Retention { count: 2, ..ROOMY }, 1..=7);
    let seqs = |channels: &[ChannelKey]| -> Vec<u64> {
        store.heads(1, channels).iter().map(|position| position.seq).collect()
    };
    assert_eq!(seqs(&[b.clone(), none.clone(), a.clone(), b.clone()]), [7, 0, 3, 7]);
    assert_eq!(seqs(&[none, a, b]), [0, 3, 7]);
    assert!(seqs(&[]).is_empty());
}

pub fn the_epoch_stays(store: &LogStore) {
    let channel = channel("chat:a");
    let epoch = store.head(0, &channel).epoch;
    for id in 1..=20 {
        let placed = store.append_within(
            0,
            &channel,
            Retention { count: 2, ..ROOMY },
            vec![draft("ann", &id.to_string())],
        );
        assert_eq!(placed[0].message.position, Some(Position { epoch, seq: id }));
        (store.pass)(10_000_000);
        for handle in [0, 1] {
            assert_eq!(store.head(handle, &channel), Position { epoch, seq: id });
            assert_eq!(store.all(handle, &channel).epoch, epoch);
        }
    }
}

pub fn a_reader_meets_no_hole_while_others_write(store: &LogStore) {
    const EACH: u64 = 100;
    let channel = channel("chat:a");
    let written = AtomicBool::new(false);
    let [log, other] = &store.handles;
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            loop {
                // Asked before the read: what was written by then must be in it.
                let last_round = written.load(Ordering::SeqCst);
                let page = read(other, &channel, Range::After(seen), 7);
                let expected: Vec<u64> = (seen + 1..).take(page.messages.len()).collect();
                assert_eq!(seqs(&page), expected, "goes on where the last page ended");
                assert!(page.head >= seen + page.messages.len() as u64);
                seen += page.messages.len() as u64;
                if last_round && page.messages.is_empty() {
                    return seen;
                }
            }
        });
        let write = |thread: u64| {
            for id in 0..EACH {
                append(log, &channel, ROOMY, vec![draft("ann", &format!("{thread}-{id}"))]);
            }
        };
        let writers = [1, 2, 3].map(|thread| scope.spawn(move || write(thread)));
        let all_written = Until(&written);
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        drop(all_written);
        assert_eq!(reader.join().expect("the reader"), 3 * EACH);
    });
}

pub fn who_yields_has_lost_nothing(store: &LogStore) {
    const EACH: usize = 10;
    let channel = channel("chat:a");
    let places = together(store, |log, thread| {
        let mut places = Vec::new();
        while places.len() < EACH {
            let ids = places.len()..EACH.min(places.len() + 3);
            let drafts = ids.map(|id| draft("ann", &format!("{thread}-{id}"))).collect();
            let Appended { taken, failure } =
                answer(|done| log.append_or_yield(&channel, ROOMY, drafts, done)).expect("an append");
            if let Some(failure) = failure {
                assert_eq!(failure.kind, Failure::Conflict, "{failure}");
            }
            let placed = placed(taken);
            assert!(placed.iter().all(|placed| !placed.retry), "what has failed has had no effect");
            places.extend(placed.iter().map(|placed| placed.message.seq()));
        }
        places
    });
    assert!(places.iter().all(|places| places.is_sorted()), "each writer's are in order: {places:?}");
    let all: BTreeSet<u64> = places.into_iter().flatten().collect();
    assert_eq!(all, (1..=(THREADS * EACH) as u64).collect(), "each place once");
}

pub fn done_may_call_the_log(store: &LogStore) {
    let log = Arc::clone(&store.handles[0]);
    ends(move || {
        let channel = channel("chat:a");
        let head = answer(|done: Done<Vec<Position>>| {
            let (again, key) = (Arc::clone(&log), channel.clone());
            let appended = move |_| {
                let (last, of) = (Arc::clone(&again), key.clone());
                again.read(&key, Range::Newest, 1, Box::new(move |_| last.heads(vec![of], done)));
            };
            log.append(&channel, ROOMY, vec![draft("ann", "1")], Box::new(appended));
        });
        assert_eq!(head.expect("heads")[0].seq, 1);
    });
}

/// Asks for every range that has an edge of the history in reach, and compares with what the contract says.
fn every_range(store: &LogStore, channel: &ChannelKey) {
    let (first, head) = store.bounds(channel);
    let kept: BTreeSet<u64> = (first..=head).collect();
    let seqs_asked = || (0..=head + 2).chain([u64::MAX - 1, u64::MAX]);
    let ranges = seqs_asked().map(Range::After).chain(seqs_asked().map(Range::Before)).chain([Range::Newest]);
    for range in ranges {
        for limit in (0..=kept.len() + 1).chain([usize::MAX]) {
            let page = store.read(limit % 2, channel, range, limit);
            let smallest = |from: u64| kept.iter().copied().filter(|seq| *seq > from).take(limit).collect();
            let largest = |to: u64| {
                let mut seqs: Vec<u64> =
                    kept.iter().rev().copied().filter(|seq| *seq < to).take(limit).collect();
                seqs.reverse();
                seqs
            };
            let expected: Vec<u64> = match range {
                Range::After(seq) => smallest(seq),
                Range::Before(seq) => largest(seq),
                Range::Newest => largest(u64::MAX),
            };
            assert_eq!(
                (page.first, page.head, seqs(&page)),
                (first, head, expected),
                "{range:?}, {limit} at most"
            );
        }
    }
}

fn append(
    log: &Arc<dyn MessageLog>,
    channel: &ChannelKey,
    retention: Retention,
    drafts: Vec<Draft>,
) -> Appended {
    answer(|done| log.append(channel, retention, drafts, done)).expect("an append")
}

/// Appends what was refused without an effect once more: where callers at several nodes race for places, a slow one may lose again and again, and is told so.
fn append_in_the_end(
    log: &Arc<dyn MessageLog>,
    channel: &ChannelKey,
    retention: Retention,
    mut drafts: Vec<Draft>,
) -> Vec<Result<Placed, Refused>> {
    let patient = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    loop {
        let Appended { taken, failure } = append(log, channel, retention, drafts.clone());
        drafts.drain(..taken.len());
        all.extend(taken);
        let Some(failure) = failure else { return all };
        let refused = matches!(failure.kind, Failure::Conflict | Failure::NotApplied | Failure::Overloaded);
        assert!(refused && Instant::now() < patient, "{failure}");
    }
}

fn read(log: &Arc<dyn MessageLog>, channel: &ChannelKey, range: Range, limit: usize) -> Page {
    answer(|done| log.read(channel, range, limit, done)).expect("a page")
}

fn seqs(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq()).collect()
}

/// Runs `caller` on several threads at once, half of them on each handle.
fn together<T: Send>(store: &LogStore, caller: impl Fn(&Arc<dyn MessageLog>, usize) -> T + Sync) -> Vec<T> {
    let handles = &store.handles;
    let barrier = std::sync::Barrier::new(THREADS);
    thread::scope(|scope| {
        let spawn = |thread: usize| {
            let (caller, barrier) = (&caller, &barrier);
            scope.spawn(move || {
                barrier.wait();
                caller(&handles[thread % 2], thread)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("a caller")).collect()
    })
}
