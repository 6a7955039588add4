//! What a store holds, asked directly by its port.

use std::sync::Arc;

use serde_json::Value;
use xpush_core::ports::message_log::{MessageLog, Range};
use xpush_core::{App, Channel, ChannelKey, Kind, Message};

use super::connection::digest_of;
use crate::checker::{Contents, History, Kept, Revision, Slot};
use crate::suite::answer;

/// Slots that are read at a time.
const PAGE: usize = 1_000;

/// The histories of an app's channels, as durable ones are kept.
pub fn contents(log: &dyn MessageLog, app: &str, channels: &[Arc<str>]) -> Contents {
    let app = App::new(app).expect("a good name");
    let history = |name: &Arc<str>| {
        let key = ChannelKey::new(app.clone(), Channel::new(name).expect("a good name"));
        (name.clone(), history(log, &key))
    };
    channels.iter().map(history).collect()
}

fn history(log: &dyn MessageLog, channel: &ChannelKey) -> History {
    let mut slots: Vec<Kept> = Vec::new();
    loop {
        let after = Range::After(slots.last().map_or(0, |kept| kept.seq));
        let page = answer(|done| log.read(channel, after, PAGE, done)).expect("the store answers");
        slots.extend(page.messages.iter().map(|message| kept(message)));
        if page.messages.is_empty() || slots.last().is_none_or(|last| last.seq >= page.head) {
            let epoch = page.epoch.to_string().into();
            return History { durable: true, epoch, first: page.first, head: page.head, slots };
        }
    }
}

fn kept(message: &Message) -> Kept {
    let data: Value = serde_json::from_slice(&message.payload.json).expect("the store keeps JSON");
    let digest = digest_of(&data);
    let slot = match message.kind {
        Kind::Message | Kind::Silent => Slot::Message { digest },
        Kind::Edit { target } => Slot::Edit { target, digest },
        Kind::Delete { target } => Slot::Delete { target },
    };
    let revision = message.revision.map(|revision| Revision { by: revision.seq, deleted: revision.deleted });
    Kept { seq: message.seq(), id: message.id.as_str().into(), slot, revision }
}
