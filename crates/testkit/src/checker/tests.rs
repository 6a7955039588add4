//! A faultless world, whose logs must pass; and each promise broken in one, which must be seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const CLIENTS: [&str; 3] = ["ann", "bob", "cem"];
const CHANNELS: [&str; 2] = ["a", "b"];

/// What may happen in the world; numbers choose whom, where and which.
#[derive(Debug, Clone)]
enum Happening {
    Subscribe(usize, usize),
    Publish(usize, usize),
    /// Applied, and the answer lost: sent once more.
    CutAck(usize, usize),
    /// Lost on the way, and sent once more.
    CutSend(usize, usize),
    Refuse(usize, usize),
    Edit(usize, usize, usize),
    Delete(usize, usize, usize),
    Kill,
    Retire(usize),
}

/// A server that keeps every promise, and its clients.
#[derive(Default)]
struct World {
    lines: Vec<Line>,
    contents: Contents,
    /// By client and channel, the last seq that was seen, and whether the subscription lives.
    seen: BTreeMap<(usize, usize), (u64, bool)>,
    count: u64,
}

impl World {
    fn new() -> Self {
        let history = |name: &str| {
            let empty = History { durable: true, epoch: "e".into(), first: 1, head: 0, slots: Vec::new() };
            (Arc::from(name), empty)
        };
        Self { contents: CHANNELS.into_iter().map(history).collect(), ..Self::default() }
    }

    fn of(happenings: &[Happening]) -> Self {
        let mut world = Self::new();
        happenings.iter().for_each(|happening| world.happen(happening));
        world.resume_all();
        world.note("", Event::Finished);
        world
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Subscribe(client, channel) => self.subscribe(*client, *channel),
            Happening::Publish(client, channel) => self.publish(*client, *channel, 0, true),
            Happening::CutAck(client, channel) => self.publish(*client, *channel, 1, true),
            Happening::CutSend(client, channel) => self.publish(*client, *channel, 1, false),
            Happening::Refuse(client, channel) => {
                let (name, id) = (CLIENTS[*client], self.id());
                let slot = Slot::Message { digest: 1 };
                let channel: Arc<str> = CHANNELS[*channel].into();
                self.note(name, Event::Sent { channel: channel.clone(), id: id.clone(), slot });
                self.note(name, Event::Refused { channel, id, code: "overloaded".into() });
            }
            Happening::Edit(client, channel, which) => {
                let digest = self.count + 1_000_000;
                self.revise(*client, *channel, *which, |target| Slot::Edit { target, digest });
            }
            Happening::Delete(client, channel, which) => {
                self.revise(*client, *channel, *which, |target| Slot::Delete { target });
            }
            Happening::Kill => {
                self.note("", Event::Killed);
                CLIENTS.into_iter().for_each(|client| self.note(client, Event::Disconnected));
                self.seen.values_mut().for_each(|(_, live)| *live = false);
                self.resume_all();
            }
            Happening::Retire(channel) => {
                let history = self.contents.get_mut(CHANNELS[*channel]).unwrap();
                if history.first < history.head {
                    history.first += 1;
                    history.slots.remove(0);
                }
            }
        }
    }

    fn note(&mut self, client: &str, event: Event) {
        let at = self.lines.len() as u64;
        self.lines.push(Line { at, client: client.into(), event });
    }

    fn id(&mut self) -> Arc<str> {
        self.count += 1;
        format!("m{}", self.count).into()
    }

    fn publish(&mut self, client: usize, channel: usize, cuts: usize, applied: bool) {
        let id = self.id();
        let slot = Slot::Message { digest: self.count };
        self.place(client, channel, &id, slot, cuts, applied);
    }

    fn revise(&mut self, client: usize, channel: usize, which: usize, slot: impl Fn(u64) -> Slot) {
        let slots = &self.contents[CHANNELS[channel]].slots;
        let alive = |kept: &&Kept| {
            kept.slot.target().is_none() && kept.revision.is_none_or(|revision| !revision.deleted)
        };
        let targets: Vec<u64> = slots.iter().filter(alive).map(|kept| kept.seq).collect();
        if targets.is_empty() {
            return;
        }
        let id = self.id();
        let slot = slot(targets[which % targets.len()]);
        self.place(client, channel, &id, slot, 0, true);
        let history = self.contents.get_mut(CHANNELS[channel]).unwrap();
        let (by, first) = (history.head, history.first);
        let kept = &mut history.slots[usize::try_from(slot.target().unwrap() - first).unwrap()];
        kept.slot = Slot::Message { digest: slot.data() };
        let deleted = matches!(slot, Slot::Delete { .. });
        kept.revision = Some(Revision { by, deleted });
        for edit in history.slots.iter_mut().filter(|edit| deleted && edit.slot.target() == slot.target()) {
            if let Slot::Edit { digest, .. } = &mut edit.slot {
                *digest = slot.data();
            }
        }
    }

    /// Sends, loses as often as it is to, and has it acked.
    fn place(
        &mut self,
        client: usize,
        channel: usize,
        id: &Arc<str>,
        slot: Slot,
        cuts: usize,
        applied: bool,
    ) {
        let (name, index) = (CLIENTS[client], channel);
        let channel: Arc<str> = CHANNELS[channel].into();
        let sent = Event::Sent { channel: channel.clone(), id: id.clone(), slot };
        for _ in 0..cuts {
            self.note(name, sent.clone());
            self.note(name, Event::Unknown { channel: channel.clone(), id: id.clone(), told: false });
        }
        let history = self.contents.get_mut(&channel).unwrap();
        history.head += 1;
        let kept = Kept { seq: history.head, id: id.clone(), slot, revision: None };
        history.slots.push(kept.clone());
        let place = Place { epoch: history.epoch.clone(), seq: history.head };
        if cuts > 0 && applied {
            self.deliver(index, &kept);
            self.note(name, sent);
        } else {
            self.note(name, sent);
            self.deliver(index, &kept);
        }
        self.note(name, Event::Acked { channel, id: id.clone(), place });
    }

    fn deliver(&mut self, channel: usize, kept: &Kept) {
        for (client, name) in CLIENTS.into_iter().enumerate() {
            let Some((seen, true)) = self.seen.get_mut(&(client, channel)) else { continue };
            *seen = kept.seq;
            self.delivered(name, channel, kept.clone());
        }
    }

    fn delivered(&mut self, client: &str, channel: usize, kept: Kept) {
        self.note(client, Event::Delivered { channel: CHANNELS[channel].into(), kept, epoch: "e".into() });
    }

    fn subscribe(&mut self, client: usize, channel: usize) {
        let name: Arc<str> = CHANNELS[channel].into();
        let history = self.contents[&name].clone();
        let place = Place { epoch: history.epoch.clone(), seq: history.head };
        let before = self.seen.insert((client, channel), (history.head, true));
        let since = before.map(|(seq, _)| Place { epoch: history.epoch.clone(), seq });
        let recovered = before.map(|(seq, _)| history.first <= seq + 1);
        let page = match (before, recovered) {
            (Some((seq, _)), Some(true)) => {
                history.slots.iter().filter(|kept| kept.seq > seq).cloned().collect()
            }
            (Some(_), _) => history.slots,
            (None, _) => Vec::new(),
        };
        let missed = page.len() as u64;
        self.note(CLIENTS[client], Event::Subscribed { channel: name, since, recovered, missed, place });
        for kept in page {
            self.delivered(CLIENTS[client], channel, kept);
        }
    }

    fn resume_all(&mut self) {
        let gone: Vec<_> = self.seen.iter().filter(|(_, (_, live))| !live).map(|(key, _)| *key).collect();
        for (client, channel) in gone {
            self.subscribe(client, channel);
        }
    }

    fn verdict(&self) -> Result<Summary, Promise> {
        check(&self.lines, &self.contents).map_err(|violation| violation.promise)
    }

    /// Changes the `which`th line for which `change` finds something to change; false when there is none.
    fn spoil(&mut self, which: usize, change: impl Fn(&mut Event) -> bool) -> bool {
        let fits: Vec<usize> =
            (0..self.lines.len()).filter(|index| change(&mut self.lines[*index].event.clone())).collect();
        !fits.is_empty() && change(&mut self.lines[fits[which % fits.len()]].event)
    }

    fn index(&self, which: impl Fn(&Line) -> bool) -> usize {
        self.lines.iter().position(which).unwrap()
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    let whom = || (0..CLIENTS.len(), 0..CHANNELS.len());
    prop_oneof![
        2 => whom().prop_map(|(client, channel)| Happening::Subscribe(client, channel)),
        6 => whom().prop_map(|(client, channel)| Happening::Publish(client, channel)),
        2 => whom().prop_map(|(client, channel)| Happening::CutAck(client, channel)),
        2 => whom().prop_map(|(client, channel)| Happening::CutSend(client, channel)),
        1 => whom().prop_map(|(client, channel)| Happening::Refuse(client, channel)),
        2 => (whom(), any::<usize>()).prop_map(|((client, channel), which)| Happening::Edit(client, channel, which)),
        1 => (whom(), any::<usize>()).prop_map(|((client, channel), which)| Happening::Delete(client, channel, which)),
        1 => Just(Happening::Kill),
        1 => (0..CHANNELS.len()).prop_map(Happening::Retire),
    ]
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    proptest::collection::vec(happening(), 1..60)
}

/// Ann and bob follow `a`; eight messages with a cut answer, a kill, an edit and a deletion.
fn busy() -> World {
    use Happening::{CutAck, Delete, Edit, Kill, Publish, Subscribe};
    let script = [
        Subscribe(0, 0),
        Subscribe(1, 0),
        Publish(2, 0),
        Publish(2, 0),
        CutAck(2, 0),
        Edit(2, 0, 0),
        Kill,
        Publish(2, 0),
        Delete(2, 0, 3),
        Publish(2, 0),
    ];
    World::of(&script)
}

fn delivered(event: &Event, seq: u64) -> bool {
    matches!(event, Event::Delivered { kept, .. } if kept.seq == seq)
}

proptest! {
    #[test]
    fn a_faultless_run_passes(happenings in happenings()) {
        let world = World::of(&happenings);
        let verdict = check(&world.lines, &world.contents);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }

    #[test]
    fn a_log_is_read_as_it_was_written(happenings in happenings()) {
        let world = World::of(&happenings);
        let mut text = Vec::new();
        write(&world.lines, &mut text).unwrap();
        prop_assert_eq!(read(text.as_slice()).unwrap(), world.lines);
        let contents = serde_json::to_string(&world.contents).unwrap();
        prop_assert_eq!(serde_json::from_str::<Contents>(&contents).unwrap(), world.contents);
    }

    #[test]
    fn a_slot_that_the_store_lost_is_missed(happenings in happenings(), which: Index) {
        let mut world = World::of(&happenings);
        let full: Vec<_> = CHANNELS.into_iter().filter(|name| world.contents[*name].slots.len() > 1).collect();
        prop_assume!(!full.is_empty());
        let history = world.contents.get_mut(*which.get(&full)).unwrap();
        history.slots.remove(which.index(history.slots.len()));
        prop_assert_eq!(world.verdict(), Err(Promise::NoHoles));
    }

    #[test]
    fn an_end_that_the_store_lost_is_missed(happenings in happenings(), which: Index) {
        let mut world = World::of(&happenings);
        let full: Vec<_> = CHANNELS.into_iter().filter(|name| !world.contents[*name].slots.is_empty()).collect();
        prop_assume!(!full.is_empty());
        let history = world.contents.get_mut(*which.get(&full)).unwrap();
        history.slots.pop();
        history.head -= 1;
        prop_assert!(world.verdict().is_err());
    }

    #[test]
    fn a_delivery_that_never_came_is_missed(happenings in happenings(), which: Index) {
        let mut world = World::of(&happenings);
        let all: Vec<usize> = (0..world.lines.len())
            .filter(|index| matches!(world.lines[*index].event, Event::Delivered { .. })).collect();
        prop_assume!(!all.is_empty());
        let at = *which.get(&all);
        world.lines.remove(at);
        let verdict = world.verdict();
        // A resumed subscription in mid-run may take up behind it: then nobody was told wrong, unless it comes again.
        let resumed = world.lines[at..].iter().any(|line| line.event == Event::Killed
            || matches!(line.event, Event::Subscribed { .. }));
        prop_assert!(verdict.is_err() || resumed);
    }

    #[test]
    fn a_delivery_that_came_twice_is_seen(happenings in happenings(), which: Index) {
        let mut world = World::of(&happenings);
        let all: Vec<usize> = (0..world.lines.len())
            .filter(|index| matches!(world.lines[*index].event, Event::Delivered { .. })).collect();
        prop_assume!(!all.is_empty());
        let at = *which.get(&all);
        let again = world.lines[at].clone();
        world.lines.insert(at, again);
        prop_assert_eq!(world.verdict(), Err(Promise::OneOrder));
    }

    #[test]
    fn altered_data_are_seen(happenings in happenings(), which: usize) {
        let mut world = World::of(&happenings);
        prop_assume!(world.spoil(which, |event| match event {
            Event::Delivered { kept: Kept { slot: Slot::Message { digest }, .. }, .. } => { *digest ^= 1; true }
            _ => false,
        }));
        let verdict = world.verdict();
        // Of a revised message whose edit is kept no more nobody knows the data.
        let forgotten = world.contents.values().any(|history| history.first > 1);
        prop_assert!(matches!(verdict, Err(Promise::Unaltered | Promise::EditsFold)) || forgotten, "{verdict:?}");
    }

    #[test]
    fn an_ack_of_another_place_is_seen(happenings in happenings(), which: usize) {
        let mut world = World::of(&happenings);
        prop_assume!(world.spoil(which, |event| match event {
            Event::Acked { place, .. } => { place.seq += 1; true }
            _ => false,
        }));
        prop_assert!(world.verdict().is_err());
    }
}

#[test]
fn the_busy_run_itself_is_good() {
    let world = busy();
    let summary = world.verdict().unwrap();
    assert_eq!((summary.sent, summary.acked, summary.unknown, summary.kills), (8, 7, 1, 1));
    assert_eq!(summary.recovered, 2);
}

#[test]
fn an_acked_message_that_the_store_lost() {
    let mut world = busy();
    // Nobody but the publisher knows of it.
    world.lines.retain(|line| !delivered(&line.event, 7));
    let history = world.contents.get_mut("a").unwrap();
    history.slots.pop();
    history.head -= 1;
    let violation = check(&world.lines, &world.contents).unwrap_err();
    assert_eq!(violation.promise, Promise::NothingLost);
    let told = violation.to_string();
    assert!(told.starts_with("NothingLost is broken in a: m7 was acked at seq 7"), "{told}");
    assert!(told.contains("Killed") && told.contains("Acked"), "{told}");
}

#[test]
fn a_place_that_was_given_twice() {
    let mut world = busy();
    let acked = world.index(|line| matches!(&line.event, Event::Acked { id, .. } if **id == *"m7"));
    let Event::Acked { place, .. } = &mut world.lines[acked].event else { unreachable!() };
    place.seq = 6;
    assert_eq!(world.verdict(), Err(Promise::OnePlaceOneMessage));
}

#[test]
fn a_retry_that_was_stored_again() {
    let mut world = busy();
    world
        .note("cem", Event::Sent { channel: "a".into(), id: "m1".into(), slot: Slot::Message { digest: 1 } });
    let place = Place { epoch: "e".into(), seq: 8 };
    world.note("cem", Event::Acked { channel: "a".into(), id: "m1".into(), place });
    assert_eq!(world.verdict(), Err(Promise::OneMessageOnePlace));

    let mut world = busy();
    let history = world.contents.get_mut("a").unwrap();
    let mut again = history.slots[0].clone();
    (again.seq, history.head) = (8, 8);
    history.slots.push(again);
    world.lines.pop();
    assert_eq!(world.verdict(), Err(Promise::OneMessageOnePlace));
}

#[test]
fn a_hole_in_what_was_called_recovered() {
    let mut world = busy();
    let kill = world.index(|line| line.event == Event::Killed);
    let resumed = world.index(|line| matches!(line.event, Event::Subscribed { since: Some(_), .. }));
    assert!(kill < resumed);
    // Ann had seen less than the server thinks that it has made good.
    let Event::Subscribed { since: Some(since), missed, .. } = &mut world.lines[resumed].event else {
        unreachable!()
    };
    (since.seq, *missed) = (since.seq - 2, 2);
    assert_eq!(world.verdict(), Err(Promise::RecoveredIsWhole));

    let mut world = busy();
    let Event::Subscribed { missed, .. } = &mut world.lines[resumed].event else { unreachable!() };
    *missed = 1;
    assert_eq!(world.verdict(), Err(Promise::RecoveredIsWhole), "another number than is missing");
}

#[test]
fn another_epoch_is_not_recovered() {
    let mut world = busy();
    for history in world.contents.values_mut() {
        history.durable = false;
    }
    let resumed = world.index(|line| matches!(line.event, Event::Subscribed { since: Some(_), .. }));
    let Event::Subscribed { since: Some(since), .. } = &mut world.lines[resumed].event else {
        unreachable!()
    };
    since.epoch = "another".into();
    assert_eq!(world.verdict(), Err(Promise::RecoveredIsWhole));
}

#[test]
fn a_durable_history_in_another_epoch() {
    let mut world = busy();
    let last = world.lines.len() - 1;
    let Event::Acked { place, .. } = &mut world.lines[last - 1].event else { unreachable!() };
    place.epoch = "another".into();
    assert_eq!(world.verdict(), Err(Promise::OneHistory));
}

#[test]
fn a_live_hole() {
    let mut world = busy();
    let missing = world.index(|line| *line.client == *"bob" && delivered(&line.event, 2));
    world.lines.remove(missing);
    assert_eq!(world.verdict(), Err(Promise::NoHoles));
}

#[test]
fn a_resume_that_should_have_been_possible() {
    let mut world = busy();
    let resumed = world.index(|line| matches!(line.event, Event::Subscribed { since: Some(_), .. }));
    let Event::Subscribed { recovered, .. } = &mut world.lines[resumed].event else { unreachable!() };
    *recovered = Some(false);
    assert_eq!(world.verdict(), Err(Promise::RecoversWhereItCan));
}

#[test]
fn a_store_that_was_rewound() {
    let mut world = busy();
    let resumed = world.index(|line| matches!(line.event, Event::Subscribed { since: Some(_), .. }));
    let Event::Subscribed { recovered, place, .. } = &mut world.lines[resumed].event else { unreachable!() };
    (*recovered, place.seq) = (Some(false), 2);
    assert_eq!(world.verdict(), Err(Promise::NothingLost));
}

#[test]
fn a_gap_that_is_none() {
    let mut world = busy();
    let place = Place { epoch: "e".into(), seq: 7 };
    world.lines.pop();
    world.note("ann", Event::Gap { channel: "a".into(), place });
    assert_eq!(world.verdict(), Err(Promise::GapsAreTrue));
}

#[test]
fn a_silent_end() {
    let mut world = busy();
    let last = world.index(|line| *line.client == *"bob" && delivered(&line.event, 7));
    world.lines.remove(last);
    assert_eq!(world.verdict(), Err(Promise::NoSilentEnd));
}

#[test]
fn what_was_never_sent() {
    let mut world = busy();
    let sent = world.index(|line| matches!(&line.event, Event::Sent { id, .. } if **id == *"m7"));
    world.lines.remove(sent);
    assert_eq!(world.verdict(), Err(Promise::NothingInvented));
}

#[test]
fn what_was_refused_and_kept() {
    let mut world = busy();
    let acked = world.index(|line| matches!(&line.event, Event::Acked { id, .. } if **id == *"m7"));
    let refused = Event::Refused { channel: "a".into(), id: "m7".into(), code: "overloaded".into() };
    world.lines[acked].event = refused;
    assert_eq!(world.verdict(), Err(Promise::RefusedIsRefused));
}

#[test]
fn a_sender_s_messages_that_changed_places() {
    let mut world = busy();
    let [first, second] = ["m1", "m2"]
        .map(|wanted| world.index(|line| matches!(&line.event, Event::Sent { id, .. } if **id == *wanted)));
    world.lines.swap(first, second);
    let acked = world.index(|line| matches!(&line.event, Event::Acked { id, .. } if **id == *"m1"));
    // Both were sent before either was answered.
    let line = world.lines.remove(second);
    world.lines.insert(first + 1, line);
    assert!(first < acked);
    assert_eq!(world.verdict(), Err(Promise::SendersOrder));
}

#[test]
fn an_edit_that_is_not_folded() {
    let revised = |world: &mut World| {
        let history = world.contents.get_mut("a").unwrap();
        history.slots.iter().position(|kept| kept.revision.is_some_and(|revision| !revision.deleted)).unwrap()
    };
    let mut world = busy();
    let at = revised(&mut world);
    let kept = &mut world.contents.get_mut("a").unwrap().slots[at];
    (kept.revision, kept.slot) = (None, Slot::Message { digest: 1 });
    assert_eq!(world.verdict(), Err(Promise::EditsFold), "not at all");

    let mut world = busy();
    let at = revised(&mut world);
    world.contents.get_mut("a").unwrap().slots[at].slot = Slot::Message { digest: 77 };
    assert_eq!(world.verdict(), Err(Promise::EditsFold), "with other data");

    let mut world = busy();
    let at = revised(&mut world);
    let kept = &mut world.contents.get_mut("a").unwrap().slots[at];
    kept.revision.as_mut().unwrap().by = 1;
    assert_eq!(world.verdict(), Err(Promise::EditsFold), "by what is no edit");
}

#[test]
fn an_edit_that_lost_its_data() {
    let mut world = busy();
    let edit = world.contents.get_mut("a").unwrap().slots.iter_mut().find_map(|kept| match &mut kept.slot {
        Slot::Edit { digest, .. } => Some(digest),
        _ => None,
    });
    *edit.unwrap() = digest(b"null");
    assert_eq!(world.verdict(), Err(Promise::EditsFold));
}

#[test]
fn an_edit_of_what_was_deleted() {
    let mut world = busy();
    let deletion =
        world.contents["a"].slots.iter().find(|kept| matches!(kept.slot, Slot::Delete { .. })).unwrap();
    let target = deletion.slot.target().unwrap();
    world.lines.pop();
    world.place(2, 0, &"late".into(), Slot::Edit { target, digest: 5 }, 0, true);
    assert_eq!(world.verdict(), Err(Promise::EditsFold));
}

#[test]
fn a_subscriber_that_was_shown_a_wrong_revision() {
    let mut world = busy();
    world.subscribe(2, 0);
    world.lines.pop();
    let wrong = Revision { by: 1, deleted: false };
    let spoiled = world.spoil(0, |event| match event {
        Event::Delivered { kept, .. } if kept.slot.target().is_none() => {
            kept.revision = Some(wrong);
            true
        }
        _ => false,
    });
    assert!(spoiled);
    world.lines.push(Line { at: 0, client: "".into(), event: Event::Finished });
    assert_eq!(world.verdict(), Err(Promise::EditsFold));
}

#[test]
fn a_log_that_sends_two_things_by_one_id() {
    let mut world = busy();
    world.lines.pop();
    world
        .note("cem", Event::Sent { channel: "a".into(), id: "m1".into(), slot: Slot::Message { digest: 2 } });
    assert_eq!(world.verdict(), Err(Promise::Log));
}
