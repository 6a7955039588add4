//! A user's channels, at a glance: a fixed number of queries for every hundred of them.

use std::cmp::Reverse;
use std::sync::Arc;

use futures_util::future::try_join_all;
use xpush_core::ports::PortError;
use xpush_core::ports::markers::{After, Conversation};
use xpush_core::{App, ChannelKey, Message, User};

use super::Inner;
use super::channel::View;
use super::markers::{Place, place};
use super::unread::Question;

/// Last messages that are read at a time.
const AT_ONCE: usize = 16;

impl Inner {
    pub(super) async fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<After>,
        limit: usize,
    ) -> Result<Vec<Conversation>, PortError> {
        let (keys, documents): (Vec<ChannelKey>, Vec<_>) =
            self.markers_of(app, user).await?.into_iter().unzip();
        let views = self.look_at(&keys).await?;
        let mut found: Vec<(u64, View, Place)> = Vec::with_capacity(views.len());
        for (view, document) in views.into_iter().zip(&documents) {
            let own = view.senders().get(user.as_str()).copied();
            let Some(place) = place(document, own) else { continue };
            let active = view.head().map_or(place.made, |head| head.wall);
            found.push((active, view, place));
        }
        if let Some(after) = after {
            found.retain(|(active, view, _)| (*active, &view.key.name) < (after.0, &after.1));
        }
        found.sort_by(|(active, view, _), (other_active, other, _)| {
            (Reverse(active), Reverse(&view.key.name)).cmp(&(Reverse(other_active), Reverse(&other.key.name)))
        });
        found.truncate(limit);
        let mut firsts = Vec::with_capacity(found.len());
        for some in found.chunks(AT_ONCE) {
            firsts.extend(try_join_all(some.iter().map(|(_, view, _)| self.readable(view))).await?);
        }
        let questions: Vec<Question<'_>> = found
            .iter()
            .zip(&firsts)
            .map(|((_, view, place), first)| Question { view, first: *first, read: place.marker.read })
            .collect();
        let unread = self.unread(&questions).await?;
        let mut lasts = Vec::with_capacity(found.len());
        let asked: Vec<(&View, u64)> =
            found.iter().map(|(_, view, _)| view).zip(firsts.iter().copied()).collect();
        for some in asked.chunks(AT_ONCE) {
            lasts.extend(try_join_all(some.iter().map(|(view, first)| self.last(view, *first))).await?);
        }
        let conversation =
            |(((active_at, view, place), unread), last): (((u64, View, Place), u64), _)| Conversation {
                channel: view.key.name.clone(),
                epoch: self.epoch_of(view.incarnation),
                head: view.seq(),
                marker: place.marker,
                unread,
                last,
                active_at,
            };
        Ok(found.into_iter().zip(unread).zip(lasts).map(conversation).collect())
    }

    /// The newest message, when it is kept.
    async fn last(&self, view: &View, first: u64) -> Result<Option<Arc<Message>>, PortError> {
        let newest = view.head().map_or(0, |head| head.newest);
        if newest == 0 || newest < first {
            return Ok(None);
        }
        Ok(self.messages(view, &[newest]).await?.into_values().next())
    }
}
