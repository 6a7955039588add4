//! Publications that the app's own back end is asked about before they take effect. Whatever else the connection sends waits behind them: its order stays.

use bytes::Bytes;
use xpush_core::ports::hooks::{Ask, Publishing};
use xpush_core::{Grant, Kind, Problem};
use xpush_wire::json;

use std::sync::Arc;

use crate::fanout::inbox::{Handle, Inbox, Publication, Publisher};
use crate::shard::Shard;

/// How deep data may be nested that a back end has made: as deep as a client's, which lie in a command and in a packet.
const DEPTH: usize = 30;

/// The back end has said whether a message may be published, and perhaps with which data.
pub(crate) struct Sanctioned {
    pub(crate) to: Handle,
    pub(crate) number: u32,
    pub(crate) result: Result<Option<Bytes>, Problem>,
}

impl Shard {
    /// Sends a publication of `grant`'s to its channel's home, at once or when the back end has agreed.
    pub(super) fn publish(&mut self, grant: &Arc<Grant>, publication: Publication) {
        let key = &publication.channel;
        let deletes = matches!(publication.draft.kind, Kind::Delete { .. });
        let ask = if grant.is_server() { Ask::PublishByServer } else { Ask::Publish };
        let asks = !deletes && self.node.hooks().asks(&key.app, ask, Some(&key.name));
        let Publisher::Session(to, _) = publication.by else { return self.send_home(publication) };
        if !asks {
            return self.send_home(publication);
        }
        let asked = question(&publication, grant.clone());
        let (number, mailbox) = (self.next_number(), self.mailbox());
        let Some(session) = self.sessions.get(to) else { return };
        session.await_sanction(number, publication);
        let done = Box::new(move |result| {
            mailbox.post(Inbox::Sanctioned(Box::new(Sanctioned { to, number, result })));
        });
        self.node.hooks().publishing(asked, done);
    }

    /// The answer. Whoever has gone meanwhile publishes nothing.
    pub(crate) fn sanctioned(&mut self, sanctioned: Sanctioned) {
        let Sanctioned { to, number, result } = sanctioned;
        let ended = self.sessions.get(to).and_then(|session| session.sanction_ends(number));
        let Some(mut publication) = ended else { return };
        let Publisher::Session(_, asked) = publication.by else { return };
        match amend(&mut publication, result) {
            Ok(()) => {
                publication.arrived = self.now;
                self.send_home(*publication);
            }
            Err(problem) => self.fail(to, asked, &problem),
        }
        self.go_on(to);
    }

    fn send_home(&mut self, publication: Publication) {
        let home = self.node.home_of(&publication.channel);
        self.post(home, Inbox::Publish(Box::new(publication)));
    }
}

/// What the back end is asked about a publication of `grant`'s.
pub(crate) fn question(publication: &Publication, grant: Arc<Grant>) -> Publishing {
    let draft = &publication.draft;
    Publishing {
        channel: publication.channel.clone(),
        grant,
        event: draft.event.clone(),
        data: draft.payload.json.clone(),
        attachments: draft.payload.attachments.len(),
        edits: draft.kind.target(),
    }
}

/// What it has answered, made of the publication.
pub(crate) fn amend(
    publication: &mut Publication,
    result: Result<Option<Bytes>, Problem>,
) -> Result<(), Problem> {
    let Some(data) = result? else { return Ok(()) };
    json::validate_bytes(&data, DEPTH).map_err(|_| {
        Problem::new(xpush_core::Code::Unavailable, "the app's back end made data that cannot be sent")
    })?;
    publication.draft.payload.json = data;
    Ok(())
}
