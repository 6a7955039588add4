//! What every [`MessageLog`](xpush_core::ports::message_log::MessageLog) makes of edits, deletions and silent messages.

use bytes::Bytes;
use xpush_core::ports::message_log::{Appended, Draft, Placed, Range, Refused};
use xpush_core::{ChannelKey, Kind, Message, Retention, Revision};

use super::{LogStore, ROOMY, THREADS, append, append_in_the_end, together};
use crate::sample::{channel, draft, draft_with};

/// Makes each of these properties a test; [`message_log_suite!`](crate::message_log_suite) does.
#[doc(hidden)]
#[macro_export]
macro_rules! edits_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, edits:
            every_kind_is_kept_as_it_was_given
            an_edit_is_folded_into_its_target
            the_newest_edit_counts
            a_message_and_its_edit_may_come_in_one_call
            a_deletion_takes_the_data_with_it
            a_deletion_takes_what_edits_have_said
            what_is_deleted_stays_deleted
            only_messages_are_changed
            what_is_no_longer_kept_is_not_changed
            others_messages_are_changed_by_who_moderates
            what_is_refused_takes_no_place_and_holds_up_nobody
            a_refused_id_may_be_used_again
            a_retried_change_is_known
            a_retried_message_is_answered_as_it_reads_now
            channels_change_their_own_messages_only
            callers_at_once_agree_on_the_newest_edit
            a_deletion_is_known_while_it_is_being_made
        );
    };
}

/// When edits are made, ms since 1970; not when messages are.
const LATER: u64 = 1_767_225_700_000;

fn edit(from: &str, id: &str, target: u64, json: &str) -> Draft {
    Draft { kind: Kind::Edit { target }, at: LATER, ..draft_with(from, id, json) }
}

fn delete(from: &str, id: &str, target: u64) -> Draft {
    Draft { kind: Kind::Delete { target }, at: LATER + 1, ..draft_with(from, id, "null") }
}

fn moderated(draft: Draft) -> Draft {
    Draft { moderates: true, ..draft }
}

fn silent(from: &str, id: &str) -> Draft {
    Draft { kind: Kind::Silent, ..draft(from, id) }
}

fn edited(seq: u64) -> Option<Revision> {
    Some(Revision { seq, at: LATER, deleted: false })
}

fn deleted(seq: u64) -> Option<Revision> {
    Some(Revision { seq, at: LATER + 1, deleted: true })
}

fn with_attachment(mut draft: Draft, attachment: &'static [u8]) -> Draft {
    draft.payload.attachments = vec![Bytes::from_static(attachment)];
    draft
}

impl LogStore {
    fn taken(&self, handle: usize, channel: &ChannelKey, drafts: Vec<Draft>) -> Vec<Result<Placed, Refused>> {
        let Appended { taken, failure } = append(&self.handles[handle], channel, ROOMY, drafts);
        assert_eq!(failure, None);
        taken
    }

    fn refused(&self, channel: &ChannelKey, draft: Draft) -> Refused {
        self.taken(0, channel, vec![draft]).remove(0).expect_err("is refused")
    }

    /// The slot as both handles read it.
    fn slot(&self, channel: &ChannelKey, seq: u64) -> Message {
        let [one, other] = [0, 1].map(|handle| self.read(handle, channel, Range::After(seq - 1), 1));
        assert_eq!(one, other);
        Message::clone(&one.messages[0])
    }

    /// What a slot says, and since when.
    fn says(&self, channel: &ChannelKey, seq: u64) -> (String, Option<Revision>) {
        let message = self.slot(channel, seq);
        assert!(message.payload.attachments.is_empty());
        (String::from_utf8_lossy(&message.payload.json).into_owned(), message.revision)
    }
}

pub fn every_kind_is_kept_as_it_was_given(store: &LogStore) {
    let channel = channel("chat:a");
    let drafts = vec![
        with_attachment(silent("ann", "1"), b"x"),
        draft("ann", "2"),
        with_attachment(edit("ann", "3", 1, "3"), b"y"),
        delete("ann", "4", 2),
    ];
    let placed = super::placed(store.taken(0, &channel, drafts.clone()));
    for (seq, (draft, placed)) in (1..).zip(drafts.into_iter().zip(placed)) {
        let expected = (draft.kind, draft.id, draft.event, draft.payload, draft.from, draft.at, seq);
        let of = |message: &Message| {
            let Message { kind, id, event, payload, from, at, .. } = message.clone();
            (kind, id, event, payload, from, at, message.seq())
        };
        assert_eq!(of(&placed.message), expected);
        assert_eq!(placed.message.revision, None, "what is answered is the draft itself");
        // The first two are changed by the others.
        if seq > 2 {
            assert_eq!(of(&store.slot(&channel, seq)), expected);
        }
    }
    assert_eq!(store.slot(&channel, 1).kind, Kind::Silent);
}

pub fn an_edit_is_folded_into_its_target(store: &LogStore) {
    let channel = channel("chat:a");
    let first = with_attachment(draft_with("ann", "1", "1"), b"first");
    store.append(0, &channel, vec![first, draft("bob", "2")]);
    store.append(1, &channel, vec![with_attachment(edit("ann", "3", 1, "11"), b"second")]);
    let target = store.slot(&channel, 1);
    assert_eq!((&*target.payload.json, target.revision), (&b"11"[..], edited(3)));
    assert_eq!(target.payload.attachments, ["second"]);
    let (kind, id, at) = (Kind::Message, "1", 1_767_225_600_000);
    assert_eq!((target.kind, target.id.as_str(), target.at), (kind, id, at), "who, what and when stay");
    // Its own slot stays what it is, and so does the neighbour's.
    assert_eq!(store.slot(&channel, 3).kind, Kind::Edit { target: 1 });
    assert_eq!(store.says(&channel, 2), ("\"2\"".to_owned(), None));
    assert_eq!(store.bounds(&channel), (1, 3));
}

pub fn the_newest_edit_counts(store: &LogStore) {
    let channel = channel("chat:a");
    store.append(0, &channel, vec![with_attachment(draft("ann", "1"), b"x"), silent("ann", "2")]);
    for round in 0..5 {
        for target in [1, 2] {
            let id = format!("{target}-{round}");
            let placed =
                store.append(round % 2, &channel, vec![edit("ann", &id, target, &round.to_string())]);
            let seq = placed[0].message.seq();
            assert_eq!(store.says(&channel, target), (round.to_string(), edited(seq)));
        }
    }
    // Who reads the log from the beginning learns each edit's own data.
    assert_eq!(store.says(&channel, 3), ("0".to_owned(), None));
    assert_eq!(store.says(&channel, 5), ("1".to_owned(), None));
}

pub fn a_message_and_its_edit_may_come_in_one_call(store: &LogStore) {
    let channel = channel("chat:a");
    let drafts = vec![draft("ann", "1"), edit("ann", "2", 1, "2"), draft("ann", "3"), delete("ann", "4", 3)];
    assert_eq!(store.append(0, &channel, drafts).len(), 4);
    assert_eq!(store.says(&channel, 1), ("2".to_owned(), edited(2)));
    assert_eq!(store.says(&channel, 3), ("null".to_owned(), deleted(4)));
}

pub fn a_deletion_takes_the_data_with_it(store: &LogStore) {
    let channel = channel("chat:a");
    store.append(0, &channel, vec![with_attachment(draft("ann", "1"), b"secret"), silent("ann", "2")]);
    store.append(1, &channel, vec![delete("ann", "3", 1), delete("ann", "4", 2)]);
    assert_eq!(store.says(&channel, 1), ("null".to_owned(), deleted(3)));
    assert_eq!(store.says(&channel, 2), ("null".to_owned(), deleted(4)));
    assert_eq!(store.slot(&channel, 1).id.as_str(), "1");
    assert_eq!(store.bounds(&channel), (1, 4), "the slots stay");
}

pub fn a_deletion_takes_what_edits_have_said(store: &LogStore) {
    let channel = channel("chat:a");
    let drafts = vec![
        draft("ann", "1"),
        with_attachment(edit("ann", "2", 1, "\"a secret\""), b"secret"),
        edit("ann", "3", 1, "\"another\""),
        draft("ann", "4"),
        edit("ann", "5", 4, "\"not this one\""),
        delete("ann", "6", 1),
    ];
    store.append(0, &channel, drafts);
    for (seq, json, revision) in [
        (1, "null", deleted(6)),
        (2, "null", None),
        (3, "null", None),
        (4, "\"not this one\"", edited(5)),
        (5, "\"not this one\"", None),
    ] {
        assert_eq!(store.says(&channel, seq), (json.to_owned(), revision), "slot {seq}");
    }
    assert_eq!(store.slot(&channel, 2).kind, Kind::Edit { target: 1 });
}

pub fn what_is_deleted_stays_deleted(store: &LogStore) {
    let channel = channel("chat:a");
    store.append(0, &channel, vec![draft("ann", "1"), delete("ann", "2", 1)]);
    for change in [edit("ann", "3", 1, "3"), delete("ann", "4", 1), moderated(edit("bob", "5", 1, "5"))] {
        assert_eq!(store.refused(&channel, change), Refused::NoSuchMessage);
    }
    assert_eq!(store.says(&channel, 1), ("null".to_owned(), deleted(2)));
}

pub fn only_messages_are_changed(store: &LogStore) {
    let channel = channel("chat:a");
    let drafts = vec![draft("ann", "1"), edit("ann", "2", 1, "2"), draft("ann", "3"), delete("ann", "4", 3)];
    store.append(0, &channel, drafts);
    for target in [0, 2, 3, 4, 5, 6, 1 << 36, u64::MAX] {
        for change in [edit("ann", "x", target, "0"), moderated(delete("ann", "y", target))] {
            assert_eq!(store.refused(&channel, change), Refused::NoSuchMessage, "{target}");
        }
    }
    assert_eq!(store.bounds(&channel), (1, 4));
}

pub fn what_is_no_longer_kept_is_not_changed(store: &LogStore) {
    let channel = channel("chat:a");
    let retention = Retention { count: 3, age_ms: 1000, ..ROOMY };
    store.fill(&channel, retention, 1..=5);
    let change = |target: u64, id: &str| {
        let drafts = vec![edit("ann", id, target, "0")];
        append(&store.handles[0], &channel, retention, drafts).taken.remove(0).map(|placed| placed.retry)
    };
    assert_eq!(change(2, "a"), Err(Refused::NoSuchMessage));
    // Takes slot 6, so that 4 is the first.
    assert_eq!(change(3, "b"), Ok(false));
    assert_eq!(change(3, "c"), Err(Refused::NoSuchMessage));
    (store.pass)(1001);
    assert_eq!(change(5, "d"), Err(Refused::NoSuchMessage));
}

pub fn others_messages_are_changed_by_who_moderates(store: &LogStore) {
    let channel = channel("chat:a");
    store.append(0, &channel, vec![draft("ann", "1"), draft("ann", "2")]);
    for change in [edit("bob", "3", 1, "3"), delete("bob", "4", 1), edit("an", "5", 1, "5")] {
        assert_eq!(store.refused(&channel, change), Refused::NotYours);
    }
    assert_eq!(store.says(&channel, 1), ("\"1\"".to_owned(), None));
    let changes = vec![moderated(edit("bob", "6", 1, "6")), moderated(delete("bob", "7", 2))];
    assert_eq!(store.append(1, &channel, changes).len(), 2);
    assert_eq!(store.says(&channel, 1), ("6".to_owned(), edited(3)));
    assert_eq!(store.slot(&channel, 1).from.user.as_str(), "ann", "it is still who published it");
    assert_eq!(store.says(&channel, 2), ("null".to_owned(), deleted(4)));
}

pub fn what_is_refused_takes_no_place_and_holds_up_nobody(store: &LogStore) {
    let channel = channel("chat:a");
    let drafts = vec![
        edit("ann", "1", 1, "1"),
        draft("ann", "2"),
        edit("bob", "3", 1, "3"),
        draft("ann", "4"),
        delete("ann", "5", 9),
    ];
    let seqs: Vec<_> = store
        .taken(0, &channel, drafts)
        .into_iter()
        .map(|taken| taken.map(|placed| placed.message.seq()))
        .collect();
    let expected =
        [Err(Refused::NoSuchMessage), Ok(1), Err(Refused::NotYours), Ok(2), Err(Refused::NoSuchMessage)];
    assert_eq!(seqs, expected);
    assert_eq!(store.bounds(&channel), (1, 2));
}

pub fn a_refused_id_may_be_used_again(store: &LogStore) {
    let channel = channel("chat:a");
    assert_eq!(store.refused(&channel, edit("ann", "x", 1, "0")), Refused::NoSuchMessage);
    store.append(0, &channel, vec![draft("ann", "1")]);
    let placed = store.append(1, &channel, vec![edit("ann", "x", 1, "0")]);
    assert_eq!((placed[0].message.seq(), placed[0].retry), (2, false));
}

pub fn a_retried_change_is_known(store: &LogStore) {
    let channel = channel("chat:a");
    store.append(0, &channel, vec![draft("ann", "1"), draft("ann", "2")]);
    let changes = || vec![edit("ann", "e", 1, "1"), edit("ann", "f", 1, "2"), delete("ann", "d", 2)];
    let first = store.append(0, &channel, changes());
    // The first edit is no longer the newest, and what was deleted is gone: a retry is a retry nevertheless, and changes nothing.
    let again = store.append(1, &channel, changes());
    for (first, again) in first.iter().zip(&again) {
        assert!(again.retry);
        assert_eq!(again.message.position, first.message.position);
        assert_eq!(again.message.kind, first.message.kind);
    }
    assert_eq!(store.says(&channel, 1), ("2".to_owned(), edited(4)));
    assert_eq!(store.bounds(&channel), (1, 5));
}

pub fn a_retried_message_is_answered_as_it_reads_now(store: &LogStore) {
    let channel = channel("chat:a");
    let drafts = || vec![draft_with("ann", "1", "\"secret\""), draft("ann", "2")];
    store.append(0, &channel, drafts());
    store.append(0, &channel, vec![delete("ann", "3", 1), edit("ann", "4", 2, "4")]);
    // It is published once more: what was withdrawn must not come back so.
    for (seq, placed) in (1..).zip(store.append(1, &channel, drafts())) {
        assert!(placed.retry);
        assert_eq!(*placed.message, store.slot(&channel, seq));
    }
}

pub fn channels_change_their_own_messages_only(store: &LogStore) {
    let (one, other) = (channel("chat:a"), channel("chat:b"));
    store.append(0, &one, vec![draft("ann", "1"), draft("ann", "2")]);
    store.append(0, &other, vec![draft("ann", "1")]);
    assert_eq!(store.refused(&other, delete("ann", "3", 2)), Refused::NoSuchMessage);
    store.append(0, &other, vec![delete("ann", "3", 1)]);
    assert_eq!(store.says(&one, 1), ("\"1\"".to_owned(), None));
    assert_eq!(store.says(&other, 1), ("null".to_owned(), deleted(2)));
}

pub fn callers_at_once_agree_on_the_newest_edit(store: &LogStore) {
    const EACH: usize = 20;
    let channel = channel("chat:a");
    store.append(0, &channel, vec![draft("ann", "1")]);
    let placed = together(store, |log, thread| {
        let change = |round: usize| {
            let id = format!("{thread}-{round}");
            let drafts = vec![edit("ann", &id, 1, &format!("\"{id}\""))];
            super::placed(append_in_the_end(log, &channel, ROOMY, drafts)).remove(0).message
        };
        (0..EACH).map(change).collect::<Vec<_>>()
    });
    let newest = placed.iter().flatten().max_by_key(|message| message.seq()).expect("edits");
    assert_eq!(newest.seq(), (1 + EACH * THREADS) as u64);
    let target = store.slot(&channel, 1);
    assert_eq!((&target.payload, target.revision), (&newest.payload, edited(newest.seq())));
}

pub fn a_deletion_is_known_while_it_is_being_made(store: &LogStore) {
    const MESSAGES: usize = 20;
    let channel = channel("chat:a");
    let messages = (1..=MESSAGES).map(|seq| draft("ann", &seq.to_string())).collect();
    store.append(0, &channel, messages);
    // All make the same ones, as one does who hears nothing and tries again at another server.
    let placed = together(store, |log, _| {
        let delete = |target: usize| {
            let drafts = vec![delete("ann", &format!("gone-{target}"), target as u64)];
            super::placed(append_in_the_end(log, &channel, ROOMY, drafts)).remove(0)
        };
        (1..=MESSAGES).map(delete).collect::<Vec<_>>()
    });
    for target in 0..MESSAGES {
        let of = |placed: &Vec<Placed>| (placed[target].message.seq(), placed[target].retry);
        let mut all: Vec<_> = placed.iter().map(of).collect();
        all.sort_unstable();
        let seq = all[0].0;
        assert_eq!(all, [vec![(seq, false)], vec![(seq, true); THREADS - 1]].concat());
    }
    assert_eq!(store.bounds(&channel), (1, 2 * MESSAGES as u64));
}
