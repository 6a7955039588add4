//! Stands where the durable store will be: durable channels are refused, all others work.

use xpush_core::ports::markers::{Advanced, After, Conversation, Mark, Marker, Markers};
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Range};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, Channel, ChannelKey, Position, Retention, User};

/// A ledger that takes nothing.
pub(crate) struct None;

fn refused<T>(done: Done<T>) {
    done(Err(PortError::new(Failure::NotApplied, "there is no durable store")));
}

impl MessageLog for None {
    fn append(&self, _: &ChannelKey, _: Retention, _: Vec<Draft>, done: Done<Appended>) {
        refused(done);
    }

    fn read(&self, _: &ChannelKey, _: Range, _: usize, done: Done<Page>) {
        refused(done);
    }

    fn heads(&self, _: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        refused(done);
    }
}

impl Markers for None {
    fn begin(&self, _: &ChannelKey, _: &User, done: Done<Marker>) {
        refused(done);
    }

    fn advance(&self, _: &ChannelKey, _: &User, _: Mark, _: u64, done: Done<Advanced>) {
        refused(done);
    }

    fn end(&self, _: &App, _: Option<&Channel>, _: &User, done: Done<()>) {
        refused(done);
    }

    fn of_channel(&self, _: &ChannelKey, _: usize, done: Done<Vec<(User, Marker)>>) {
        refused(done);
    }

    fn unread(&self, _: &ChannelKey, _: Vec<User>, done: Done<Vec<(User, u64)>>) {
        refused(done);
    }

    fn conversations(&self, _: &App, _: &User, _: Option<After>, _: usize, done: Done<Vec<Conversation>>) {
        refused(done);
    }
}
