use std::sync::mpsc;

use bytes::Bytes;
use xpush_core::{App, Channel, ClientId, EventName, Kind, Payload, Sender, User};
use xpush_testkit::ManualClock;

use super::*;

const ROOMY: Retention = Retention { count: 1000, bytes: 1 << 20, age_ms: 60_000 };

fn log(bound: usize) -> MemoryLog {
    MemoryLog::new(7, bound, Arc::new(ManualClock::new()))
}

fn channel(number: usize) -> ChannelKey {
    ChannelKey::new(App::new("demo").unwrap(), Channel::new(&format!("chat:{number}")).unwrap())
}

fn draft(id: usize, size: usize) -> Draft {
    Draft {
        kind: Kind::Message,
        moderates: false,
        id: ClientId::new(&id.to_string()).unwrap(),
        event: EventName::new("message").unwrap(),
        payload: Payload { json: Bytes::from(vec![b'1'; size]), attachments: Vec::new() },
        from: Sender { user: User::new("ann").unwrap(), name: None },
        at: 0,
    }
}

/// What `start` answers; nothing here waits, so it is there at once.
fn now<T: Send + 'static>(start: impl FnOnce(Done<T>)) -> T {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |result| sender.send(result).unwrap()));
    receiver.try_recv().unwrap().unwrap()
}

fn append(log: &MemoryLog, channel: &ChannelKey, drafts: Vec<Draft>) -> Appended {
    now(|done| log.append(channel, ROOMY, drafts, done))
}

fn head(log: &MemoryLog, channel: &ChannelKey) -> Position {
    now(|done| log.heads(vec![channel.clone()], done))[0]
}

#[test]
fn the_channel_written_least_recently_is_evicted() {
    // 1 kB messages, one a channel: about 10 fit.
    let log = log(10 * (1000 + 1600));
    for number in 0..8 {
        append(&log, &channel(number), vec![draft(number, 1000)]);
    }
    // Channel 0 is the newest now.
    append(&log, &channel(0), vec![draft(100, 10)]);
    let kept = |log: &MemoryLog| (0..20).filter(|n| head(log, &channel(*n)).seq > 0).collect::<Vec<_>>();
    assert_eq!(kept(&log), [0, 1, 2, 3, 4, 5, 6, 7]);
    let newest = (8..100).find(|number| {
        append(&log, &channel(*number), vec![draft(*number, 1000)]);
        head(&log, &channel(2)).seq == 0
    });
    assert_eq!(kept(&log), std::iter::once(0).chain(3..=newest.unwrap()).collect::<Vec<_>>());
}

#[test]
fn an_evicted_channel_never_has_an_earlier_epoch() {
    let log = log(20_000);
    let mut epochs = vec![head(&log, &channel(0)).epoch];
    assert_eq!(epochs, [Epoch(7)]);
    for round in 0..5 {
        let placed = append(&log, &channel(0), vec![draft(round, 10)]).taken;
        assert_eq!(
            placed[0].as_ref().unwrap().message.position,
            Some(Position { epoch: epochs[round], seq: 1 })
        );
        assert!((1..100).any(|number| {
            append(&log, &channel(number), vec![draft(number, 1000)]);
            head(&log, &channel(0)).seq == 0
        }));
        // Told to whoever asks before anything is written, too.
        let next = head(&log, &channel(0)).epoch;
        assert_eq!(now(|done| log.read(&channel(0), Range::Newest, 10, done)).epoch, next);
        assert!(!epochs.contains(&next));
        epochs.push(next);
    }
    // A channel that never was has lost nothing.
    assert_eq!(head(&log, &channel(1_000_000)).epoch, Epoch(7));
}

#[test]
fn forgetting_who_was_evicted_changes_the_epoch_of_all_rather_than_to_repeat_one() {
    let log = log(20_000);
    let first_stripe = |channel: &ChannelKey| std::ptr::eq(log.stripe(channel), &log.stripes[0]);
    let channels: Vec<ChannelKey> = (0..).map(channel).filter(first_stripe).take(REMEMBERED + 50).collect();
    for channel in &channels {
        append(&log, channel, vec![draft(0, 1000)]);
    }
    assert!(lock(&log.stripes[0]).incarnation > 0);
    for channel in &channels {
        let Position { epoch, seq } = head(&log, channel);
        assert!(seq > 0 || epoch != Epoch(7), "{channel}");
    }
    let remembered = log.stripes.iter().map(|stripe| lock(stripe).evicted.len()).max();
    assert!(remembered.unwrap() <= REMEMBERED);
}

#[test]
fn the_bound_holds_whatever_is_written() {
    let bound = 1 << 20;
    let log = log(bound);
    let huge = Retention { count: usize::MAX, bytes: usize::MAX, age_ms: u64::MAX };
    for number in 0..20_000 {
        let size = [0, 100, 1000, 60_000][number % 4];
        let _: Appended = now(|done| {
            log.append(&channel(number % 7 * (number % 300)), huge, vec![draft(number, size)], done)
        });
        assert!(log.used() <= bound, "{} after {number}", log.used());
    }
    // What is counted up is counted down.
    let weights =
        log.stripes.iter().map(|stripe| lock(stripe).histories.values().map(History::weight).sum::<usize>());
    assert_eq!(log.used(), weights.sum::<usize>());
}

#[test]
fn one_channel_takes_its_share_and_leaves_the_others_theirs() {
    let log = log(100_000);
    append(&log, &channel(1), vec![draft(0, 100)]);
    for id in 0..1000 {
        append(&log, &channel(2), vec![draft(id, 100)]);
    }
    assert_eq!(head(&log, &channel(1)).seq, 1);
    assert_eq!(head(&log, &channel(2)).seq, 1000);
    assert!(log.used() <= 100_000 / SHARES + 5000);
    let Appended { taken: placed, failure } =
        append(&log, &channel(2), vec![draft(5000, 10), draft(5001, 26_000), draft(5002, 10)]);
    assert_eq!((placed.len(), failure.map(|failure| failure.kind)), (1, Some(Failure::Full)));
    assert_eq!(head(&log, &channel(2)).seq, 1001);
}

#[test]
fn what_placed_nothing_takes_no_memory() {
    let log = log(100_000);
    append(&log, &channel(1), Vec::new());
    append(&log, &channel(2), vec![draft(1, 100_000)]);
    now(|done| log.read(&channel(3), Range::Newest, 10, done));
    assert_eq!(head(&log, &channel(4)).seq, 0);
    assert_eq!(log.used(), 0);
    assert!(log.stripes.iter().all(|stripe| lock(stripe).histories.is_empty()));
}
