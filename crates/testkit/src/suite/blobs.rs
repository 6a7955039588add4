//! What every [`Blobs`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

pub mod content;

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use xpush_core::ports::Failure;
use xpush_core::ports::blobs::{BlobId, Blobs, Part};

use self::content::{blob, read, write};
use crate::suite::{PATIENCE, answer};

/// Contents: there is none.
pub struct BlobStore {
    /// Two handles on them, as two nodes have them.
    pub handles: [Arc<dyn Blobs>; 2],
    /// How many things are kept, unfinished ones included, as the store's owner sees it.
    pub kept: Box<dyn Fn() -> usize>,
}

/// Makes each property of a [`Blobs`] a test; `$fixture` is a function that gives a [`BlobStore`].
#[macro_export]
macro_rules! blobs_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, blobs:
            what_was_written_is_read_by_every_handle
            a_content_without_bytes_is_one
            ranges_are_read_alone
            nothing_is_seen_before_it_is_finished
            what_is_dropped_leaves_nothing
            more_than_was_announced_is_refused
            what_is_deleted_is_gone
            what_a_crash_has_left_is_deleted
            parts_of_one_file_are_apart
            a_large_content_is_whole
            writers_at_the_same_time_do_not_meet
        );
    };
}

/// Bytes of which no two stretches are the same.
fn pattern(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[4]).collect()
}

impl BlobStore {
    /// Waits until no more than `count` things are kept.
    fn comes_down_to(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let kept = (self.kept)();
            if kept == count {
                return;
            }
            assert!(Instant::now() < deadline, "{kept} things are kept, and not {count}");
            thread::yield_now();
        }
    }
}

pub fn what_was_written_is_read_by_every_handle(store: &BlobStore) {
    let id = blob(1);
    assert_eq!(write(&*store.handles[0], &id, &[b"one ", b"two ", b"three"]), Ok(13));
    for handle in &store.handles {
        assert_eq!(read(&**handle, &id, 0..u64::MAX).as_deref(), Some(&b"one two three"[..]));
        assert_eq!(
            answer(|done| handle.open(&id, 0..1, done)).expect("an answer").map(|opened| opened.size),
            Some(13)
        );
        assert_eq!(read(&**handle, &blob(2), 0..1), None);
    }
}

pub fn a_content_without_bytes_is_one(store: &BlobStore) {
    assert_eq!(write(&*store.handles[0], &blob(1), &[]), Ok(0));
    assert_eq!(read(&*store.handles[1], &blob(1), 0..u64::MAX), Some(Vec::new()));
}

pub fn ranges_are_read_alone(store: &BlobStore) {
    let id = blob(1);
    let bytes = pattern(0, 1_000_000);
    write(&*store.handles[0], &id, &[&bytes]).expect("room");
    for range in [0..1, 999_999..1_000_000, 10..10, 1_000..900_000, 999_990..2_000_000, 1_000_000..1_000_001]
    {
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
        let expected = &bytes[at(range.start)..at(range.end)];
        assert_eq!(read(&*store.handles[1], &id, range.clone()).as_deref(), Some(expected), "{range:?}");
    }
}

pub fn nothing_is_seen_before_it_is_finished(store: &BlobStore) {
    let id = blob(1);
    let mut upload = answer(|done| store.handles[0].create(&id, 8, done)).expect("room");
    answer(|done| upload.write("whole".into(), done)).expect("room");
    assert_eq!(read(&*store.handles[1], &id, 0..9), None);
    assert_eq!(answer(|done| upload.finish(done)), Ok(5));
    assert_eq!(read(&*store.handles[1], &id, 0..9).as_deref(), Some(&b"whole"[..]));
}

pub fn what_is_dropped_leaves_nothing(store: &BlobStore) {
    let id = blob(1);
    let mut upload = answer(|done| store.handles[0].create(&id, 32 << 20, done)).expect("room");
    for part in 0..20 {
        answer(|done| upload.write(pattern(part << 20, (part + 1) << 20).into(), done)).expect("room");
    }
    drop(upload);
    store.comes_down_to(0);
    assert_eq!(read(&*store.handles[1], &id, 0..9), None);
}

pub fn more_than_was_announced_is_refused(store: &BlobStore) {
    let id = blob(1);
    let mut upload = answer(|done| store.handles[0].create(&id, 4, done)).expect("room");
    assert_eq!(answer(|done| upload.write("four".into(), done)), Ok(()));
    let refused = answer(|done| upload.write("!".into(), done)).map_err(|error| error.kind);
    assert_eq!(refused, Err(Failure::Invalid));
    drop(upload);
    store.comes_down_to(0);
}

pub fn what_is_deleted_is_gone(store: &BlobStore) {
    write(&*store.handles[0], &blob(1), &[b"one"]).expect("room");
    write(&*store.handles[0], &blob(2), &[b"two"]).expect("room");
    for handle in &store.handles {
        assert_eq!(answer(|done| handle.delete(&blob(1), done)), Ok(()));
    }
    assert_eq!(read(&*store.handles[0], &blob(1), 0..9), None);
    assert_eq!(read(&*store.handles[1], &blob(2), 0..9).as_deref(), Some(&b"two"[..]));
    store.comes_down_to(1);
}

pub fn what_a_crash_has_left_is_deleted(store: &BlobStore) {
    let id = blob(1);
    let mut upload = answer(|done| store.handles[0].create(&id, 32 << 20, done)).expect("room");
    for part in 0..20 {
        answer(|done| upload.write(pattern(part << 20, (part + 1) << 20).into(), done)).expect("room");
    }
    // Whoever wrote it is no more.
    std::mem::forget(upload);
    assert!((store.kept)() > 0, "an upload that takes no room proves nothing");
    assert_eq!(answer(|done| store.handles[1].delete(&id, done)), Ok(()));
    store.comes_down_to(0);
}

pub fn parts_of_one_file_are_apart(store: &BlobStore) {
    let part = |part| BlobId { part, ..blob(1) };
    for (number, of) in (0_u8..).zip(Part::EACH) {
        write(&*store.handles[0], &part(of), &[&[number]]).expect("room");
    }
    assert_eq!(answer(|done| store.handles[0].delete(&part(Part::Original), done)), Ok(()));
    assert_eq!(read(&*store.handles[1], &part(Part::Content), 0..9), Some(vec![0]));
    assert_eq!(read(&*store.handles[1], &part(Part::Thumbnail), 0..9), Some(vec![1]));
    assert_eq!(read(&*store.handles[1], &part(Part::Original), 0..9), None);
    assert_eq!(answer(|done| store.handles[0].delete(&part(Part::Content), done)), Ok(()));
    assert_eq!(read(&*store.handles[1], &part(Part::Thumbnail), 0..9), Some(vec![1]));
}

pub fn a_large_content_is_whole(store: &BlobStore) {
    // More than one part of any store, in chunks that fit none.
    const SIZE: usize = 21_000_003;
    const CHUNK: usize = 777_777;
    let id = blob(1);
    let mut upload = answer(|done| store.handles[0].create(&id, SIZE as u64, done)).expect("room");
    for from in (0..SIZE).step_by(CHUNK) {
        let chunk = pattern(from, SIZE.min(from + CHUNK));
        answer(|done| upload.write(chunk.into(), done)).expect("room");
    }
    assert_eq!(answer(|done| upload.finish(done)), Ok(SIZE as u64));
    let bytes = read(&*store.handles[1], &id, 0..u64::MAX).expect("it is there");
    assert!(bytes == pattern(0, SIZE), "the bytes are others");
    let tail = read(&*store.handles[1], &id, 20_999_999..21_000_003).expect("it is there");
    assert_eq!(tail, pattern(20_999_999, SIZE));
}

pub fn writers_at_the_same_time_do_not_meet(store: &BlobStore) {
    thread::scope(|scope| {
        for number in 0..8 {
            let blobs = &store.handles[usize::from(number % 2)];
            scope.spawn(move || {
                let bytes = [number; 100_000];
                write(&**blobs, &blob(number), &[&bytes, &bytes]).expect("room");
            });
        }
    });
    for number in 0..8 {
        assert_eq!(read(&*store.handles[0], &blob(number), 0..u64::MAX), Some(vec![number; 200_000]));
    }
    store.comes_down_to(8);
}
