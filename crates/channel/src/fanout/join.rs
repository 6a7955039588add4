//! Joining a channel: follow → read → answer → live, so that nothing falls between history and the live stream.

use std::sync::Arc;

use xpush_core::ports::PortError;
use xpush_core::ports::bus::Topic;
use xpush_core::ports::hooks;
use xpush_core::ports::message_log::{Page, Range};
use xpush_core::ports::presence::Roster;
use xpush_core::{ChannelKey, Code, Message, Position, Problem};

use super::home::{AskedBus, Home, is_ahead};
use super::inbox::{HomeRef, Inbox, Join, Joined, Leave, Reply, Wanted};
use super::marking::{Marked, Marks};
use super::order;
use crate::command::presence::ROSTER;
use crate::planted::{Bug, is_planted};
use crate::shard::{Shard, Timer};

/// The most messages that a resume brings; with more missed it is `recovered: false`.
const RESUME_PAGE: usize = 10_000;
/// Messages of the newest page after `recovered: false`.
pub(crate) const NEWEST_PAGE: usize = 50;
/// How often a list of who is here is asked for, if somebody comes or goes each time.
pub(crate) const LISTINGS: u8 = 3;
/// How long a join of a durable channel waits for the store at most, in ms.
const PATIENCE_MS: u64 = 2_000;
/// How long joins wait for the bus, in ms: a bus that is slow, or dies, shall not keep anybody from what this node and the log have.
const BUS_MS: u64 = 500;

/// A join that waits for the log or for presence.
pub(super) struct Joining {
    number: u32,
    request: Join,
    /// Its page was read before the bus followed: what came in between is read when the order has begun.
    early: bool,
    page: Reading,
    roster: Listing,
    marks: Option<Box<Marks>>,
}

/// A join's part of the history.
enum Reading {
    /// It is to be read as soon as the bus follows.
    Due,
    /// The home knows its release point, and nothing was missed.
    NotNeeded,
    /// The page behind `since`; without `since`, only the head.
    Missed,
    /// A part of what the join of that number is reading.
    Shared(u32),
    /// The newest page: what was missed cannot be had.
    Newest,
    /// Read; `recovered` says whether it goes on at `since`.
    Done { page: Page, recovered: bool },
}

/// A join's list of who is here.
enum Listing {
    NotNeeded,
    /// Until as many entries of this home have been applied: one's own is among them.
    Entering(u64),
    /// Asked for when subscribers had been told so often, for so many more times at most.
    Reading {
        told: u64,
        tries: u8,
    },
    Done(Roster),
}

impl Joining {
    /// Whether it reads all that a join at `since` has missed.
    fn reads_behind(&self, since: Position) -> bool {
        let begins = self.request.since.filter(|_| matches!(self.page, Reading::Missed));
        begins.is_some_and(|begins| begins.epoch == since.epoch && begins.seq <= since.seq)
    }
}

impl Listing {
    fn again(told: u64, tries: u8) -> Self {
        Self::Reading { told, tries: tries - 1 }
    }
}

impl Shard {
    /// The bus is followed before the log is read, and the answer goes before everything that is released after it.
    pub(crate) fn home_join(&mut self, request: Join) {
        let number = self.next_number();
        let rule = self.current_rule(&request.channel).unwrap_or_else(|| request.rule.clone());
        let home_ref = self.homes.open(&request.channel, &rule);
        self.adopt_rule(home_ref, rule);
        let covered = self.recount.covers(&request.channel, request.who.shard);
        self.homes.changed(&request.channel);
        let Some(home) = self.homes.get(home_ref) else { return };
        if !request.again && home.follow(request.who.shard) {
            self.follow_on_bus(home_ref, &request.channel);
            self.node.hooks().tell(hooks::Event::Occupied(request.channel.clone()));
        }
        let Some(home) = self.homes.get(home_ref) else { return };
        let entered = match request.enters.clone() {
            Some(entrance) => home.attendance.change(entrance, true, covered),
            None => home.attendance.changes(),
        };
        let roster = if request.wants_roster { Listing::Entering(entered) } else { Listing::NotNeeded };
        let since = request.since;
        let reads = home.keeps_history() && (since.is_some() || home.order.at().is_none());
        // Where the channel stands now is where the new subscriber begins: what it publishes right after it shall come to it. What was missed comes in one
        // page, read when nothing falls behind it any more.
        let early = reads && since.is_none() && home.awaits_bus();
        let page = if reads { Reading::Due } else { Reading::NotNeeded };
        let (key, durable) = (home.key.clone(), home.rule.history.is_durable());
        let marked = durable && (request.marks_of.is_some() || request.wants_receipts);
        let marks = marked.then(|| {
            let (user, receipts) = (request.marks_of.as_ref(), request.wants_receipts);
            Box::new(self.read_marks(home_ref, number, &key, user, receipts))
        });
        let Some(home) = self.homes.get(home_ref) else { return };
        home.joins.push(Joining { number, request, early, page, roster, marks });
        if durable {
            self.arm(PATIENCE_MS, Timer::Join(home_ref, number));
        }
        self.read_due_pages(home_ref);
        self.apply_attendance(home_ref);
        self.advance_joins(home_ref);
    }

    pub(crate) fn home_leave(&mut self, request: Leave) {
        let Some(home_ref) = self.homes.find(&request.channel) else { return };
        let covered = self.recount.covers(&request.channel, request.who.shard);
        self.homes.changed(&request.channel);
        let Some(home) = self.homes.get(home_ref) else { return };
        if let Some(entrance) = request.leaves {
            home.attendance.change(entrance, false, covered);
        }
        let last = home.unfollow(request.who.shard);
        let overtaken =
            |join: &Joining| join.request.who == request.who && join.request.ticket == request.ticket;
        // With the last subscription those go, too, whom a later `subscribe` of its session has overtaken.
        let cancelled: Vec<_> = home.joins.extract_if(.., |join| last || overtaken(join)).collect();
        if last {
            // The next subscriber begins at the head, whatever is released until then.
            home.order = order::Order::default();
            home.tail.clear();
            home.asked_bus = None;
            self.node.hooks().tell(hooks::Event::Vacated(request.channel.clone()));
            self.node.bus().unfollow(&Topic::Channel(request.channel));
        }
        for join in cancelled {
            self.answer_join(&join.request, Err(Code::Cancelled.into()));
        }
        self.apply_attendance(home_ref);
        self.retire(home_ref);
    }

    /// Until the bus says that it follows, joins wait: what is published meanwhile on other nodes would be neither in their page nor behind it.
    fn follow_on_bus(&mut self, home_ref: HomeRef, channel: &ChannelKey) {
        let (number, mailbox) = (self.next_number(), self.mailbox());
        let Some(home) = self.homes.get(home_ref) else { return };
        home.asked_bus = Some(AskedBus { number, late: false });
        let done = Box::new(move |result| mailbox.post(Inbox::Followed(home_ref, number, result)));
        self.node.bus().follow(Topic::Channel(channel.clone()), done);
        self.arm(BUS_MS, Timer::Follow(home_ref, number));
    }

    pub(crate) fn home_followed(&mut self, home_ref: HomeRef, number: u32, result: Result<(), PortError>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(asked) = home.asked_bus.filter(|asked| asked.number == number) else { return };
        home.asked_bus = None;
        if asked.late && result.is_ok() {
            return self.look_behind(home_ref);
        }
        if let Err(error) = result {
            // This node's subscribers are served all the same; when the bus comes back it tells of a gap.
            tracing::debug!(%error, "the bus does not follow a channel yet");
        }
        self.read_due_pages(home_ref);
        self.advance_joins(home_ref);
    }

    /// Joins go on without the bus; when it follows at last, the log is read.
    pub(crate) fn bus_is_late(&mut self, home_ref: HomeRef, number: u32) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(asked) = home.asked_bus.as_mut().filter(|asked| asked.number == number) else { return };
        asked.late = true;
        self.read_due_pages(home_ref);
        self.advance_joins(home_ref);
    }

    fn read_due_pages(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let follows = !home.awaits_bus();
        let due = |join: &Joining| matches!(join.page, Reading::Due) && (follows || join.early);
        let due: Vec<usize> = (0..home.joins.len()).filter(|index| due(&home.joins[*index])).collect();
        for index in due {
            self.read_join_page(home_ref, index);
        }
    }

    /// Reads what a join has missed, or where its channel stands. Of many who come back at once, one reads.
    fn read_join_page(&mut self, home_ref: HomeRef, index: usize) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let (number, since) = (home.joins[index].number, home.joins[index].request.since);
        if let Some(since) = since {
            // Where this node's other subscribers stand: from here on it hears what they hear.
            if home.order.at() == Some(since) && !home.awaits_bus() {
                let page =
                    Page { epoch: since.epoch, first: since.seq + 1, head: since.seq, messages: Vec::new() };
                home.joins[index].page = Reading::Done { page, recovered: true };
                return;
            }
            if let Some(reader) = home.joins.iter().find(|join| join.reads_behind(since)) {
                home.joins[index].page = Reading::Shared(reader.number);
                return;
            }
        }
        home.joins[index].page = Reading::Missed;
        let limit = if since.is_some() { RESUME_PAGE } else { 1 };
        let range = since.map_or(Range::Newest, |since| Range::After(since.seq));
        self.read_page(home_ref, Wanted::Join(number), range, limit);
    }

    pub(super) fn join_page(&mut self, home_ref: HomeRef, number: u32, result: Result<Page, PortError>) {
        let page = match result {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "cannot read the log for a subscription");
                while let Some(index) = self.homes.get(home_ref).and_then(|home| home.join_that_reads(number))
                {
                    self.join_failed(home_ref, index, error.code().into());
                }
                return;
            }
        };
        self.share_page(home_ref, number, &page);
        self.own_page(home_ref, number, page);
        self.read_due_pages(home_ref);
        self.advance_joins(home_ref);
    }

    /// Gives a page to the joins that share it; those whose part is not whole are to read for themselves.
    fn share_page(&mut self, home_ref: HomeRef, number: u32, page: &Page) {
        let Some(home) = self.homes.get(home_ref) else { return };
        for join in
            home.joins.iter_mut().filter(|join| matches!(join.page, Reading::Shared(by) if by == number))
        {
            let Some(since) = join.request.since else { continue };
            let behind = page.messages.partition_point(|message| message.seq() <= since.seq);
            let part = Page { messages: page.messages[behind..].to_vec(), ..*page };
            join.page = match goes_on(since, &part) {
                true => Reading::Done { page: part, recovered: true },
                false => Reading::Due,
            };
        }
    }

    fn own_page(&mut self, home_ref: HomeRef, number: u32, page: Page) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(index) = home.join_numbered(number) else { return };
        let join = &mut home.joins[index];
        let head = Position { epoch: page.epoch, seq: page.head };
        if home.rule.history.is_durable() && join.request.since.is_some_and(|since| is_ahead(since, head)) {
            self.node.metrics.ahead("a client", &home.key, self.node.clock().wall());
        }
        let recovered = join.request.since.is_none_or(|since| goes_on(since, &page));
        match join.page {
            Reading::Missed if !recovered => {
                join.page = Reading::Newest;
                self.read_page(home_ref, Wanted::Join(number), Range::Newest, NEWEST_PAGE);
            }
            Reading::Missed => join.page = Reading::Done { page, recovered: true },
            Reading::Newest => join.page = Reading::Done { page, recovered: false },
            Reading::Due | Reading::NotNeeded | Reading::Shared(_) | Reading::Done { .. } => {}
        }
    }

    pub(crate) fn join_roster(&mut self, home_ref: HomeRef, number: u32, result: Result<Roster, PortError>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(index) = home.join_numbered(number) else { return };
        match result {
            // While it is not known, nothing is said: what the store has may be a part.
            Ok(_) if !self.presence.known => home.joins[index].roster = Listing::NotNeeded,
            // The joining session has not heard what was told meanwhile.
            Ok(roster) => match home.joins[index].roster {
                Listing::Reading { told, tries } if told != home.attendance.told() && tries > 0 => {
                    home.joins[index].roster = Listing::again(home.attendance.told(), tries);
                    return self.read_roster(home_ref, number);
                }
                _ => home.joins[index].roster = Listing::Done(roster),
            },
            Err(error) => {
                // Presence is unknown; the messages can be had all the same.
                tracing::warn!(%error, "cannot list who is here");
                home.joins[index].roster = Listing::NotNeeded;
            }
        }
        self.advance_joins(home_ref);
        self.retire(home_ref);
    }

    pub(crate) fn join_marked(&mut self, home_ref: HomeRef, number: u32, result: Result<Marked, PortError>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(index) = home.join_numbered(number) else { return };
        match (result, &mut home.joins[index].marks) {
            (Ok(marked), Some(marks)) => marks.take(marked),
            (Ok(_), None) => {}
            (Err(error), _) => {
                tracing::warn!(%error, "cannot read the markers for a subscription");
                self.join_failed(home_ref, index, error.code().into());
            }
        }
        self.advance_joins(home_ref);
        self.retire(home_ref);
    }

    /// The store has had its time.
    pub(crate) fn join_is_old(&mut self, home_ref: HomeRef, number: u32) {
        let Some(home) = self.homes.get(home_ref) else { return };
        if let Some(index) = home.join_numbered(number) {
            let problem = Problem::new(Code::Unavailable, "the channel's store does not answer");
            self.join_failed(home_ref, index, problem);
            self.retire(home_ref);
        }
    }

    /// Starts what joins wait for and answers those that have everything.
    pub(crate) fn advance_joins(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let applied = home.attendance.applied();
        let mut lists = Vec::new();
        for join in &mut home.joins {
            if matches!(join.roster, Listing::Entering(number) if number <= applied) {
                join.roster = Listing::Reading { told: home.attendance.told(), tries: LISTINGS };
                lists.push(join.number);
            }
        }
        for number in lists {
            self.read_roster(home_ref, number);
        }
        if self.homes.get(home_ref).is_some_and(|home| home.is_behind_joins()) {
            self.catch_up(home_ref);
        }
        while let Some(index) = self.homes.get(home_ref).and_then(Home::ready_join) {
            self.finish_join(home_ref, index);
        }
        if let Some(home) = self.homes.get(home_ref)
            && home.joins.is_empty()
        {
            home.tail = Vec::new();
        }
    }

    fn read_roster(&mut self, home_ref: HomeRef, number: u32) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let (key, mailbox) = (home.key.clone(), self.mailbox());
        let done = Box::new(move |result| mailbox.post(Inbox::RosterRead(home_ref, number, result)));
        self.node.presence().list(&key, ROSTER, done);
    }

    fn finish_join(&mut self, home_ref: HomeRef, index: usize) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Joining { request, early, page, roster, .. } = &mut home.joins[index];
        let (mut released, mut missed, mut recovered) = (Vec::new(), Vec::new(), None);
        let (mut catch_up, mut begun) = (false, false);
        if let Reading::Done { page, recovered: goes_on } = std::mem::replace(page, Reading::NotNeeded) {
            match home.order.at() {
                None => {
                    let head = Position { epoch: page.epoch, seq: page.head };
                    if request.since.is_none() {
                        home.order.begin(head);
                        begun = true;
                    } else {
                        home.order.start(head, &mut released);
                    }
                    catch_up = *early;
                }
                // The log may be ahead of the bus: what it has is released now, for everybody.
                Some(_) => {
                    page.messages.iter().for_each(|message| home.order.offer(message.clone(), &mut released))
                }
            }
            if request.since.is_some() {
                recovered = Some(goes_on);
                missed = page.messages;
            }
        }
        let since = request.since;
        let roster = match std::mem::replace(roster, Listing::NotNeeded) {
            Listing::Done(roster) => Some(roster),
            _ => None,
        };
        self.release(home_ref, released);
        let Some(home) = self.homes.get(home_ref) else { return };
        let position = home.order.at();
        if let Some((at, _)) = position.zip(recovered) {
            let after = since.filter(|_| recovered == Some(true)).map(|since| since.seq);
            let begins = |whole: &[Arc<Message>]| whole.first().map_or(at.seq + 1, |message| message.seq());
            match order::missed(missed, &home.tail, after, at) {
                Ok(whole) if after.is_none_or(|after| begins(&whole) == after + 1) => missed = whole,
                // Another join, whose page was read later, has moved the release point beyond this page.
                _ => {
                    home.joins[index].roster = roster.map_or(Listing::NotNeeded, Listing::Done);
                    return self.read_join_page(home_ref, index);
                }
            }
        }
        let join = home.joins.remove(index);
        if join.request.unreadable {
            recovered = Some(false);
        }
        if is_planted(Bug::AlwaysRecovered) {
            recovered = recovered.map(|_| true);
        }
        let joined = Joined {
            channel: join.request.channel.clone(),
            ticket: join.request.ticket,
            position,
            recovered,
            missed,
            roster,
            marks: join.marks,
        };
        let unlisted = join.request.wants_roster && joined.roster.is_none();
        self.answer_join(&join.request, Ok(joined));
        if begun && let Some(home) = self.homes.get(home_ref) {
            let mut released = Vec::new();
            home.order.release(&mut released);
            self.release(home_ref, released);
        }
        if unlisted {
            // It may have become known while this join waited for something else.
            self.relist(&join.request.channel);
        }
        if catch_up && self.node.has_peers() {
            self.look_behind(home_ref);
        }
    }

    /// The session hears of it, and leaves.
    pub(super) fn join_failed(&mut self, home_ref: HomeRef, index: usize, problem: Problem) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let join = home.joins.remove(index);
        self.answer_join(&join.request, Err(problem));
    }

    fn answer_join(&mut self, request: &Join, result: Result<Joined, Problem>) {
        let reply = match result {
            Ok(joined) => Reply::Joined(Box::new(joined)),
            Err(problem) => Reply::JoinFailed { ticket: request.ticket, problem },
        };
        self.post(request.who.shard, Inbox::Reply { to: request.who, asked: request.asked, reply });
    }
}

impl Home {
    fn join_numbered(&self, number: u32) -> Option<usize> {
        self.joins.iter().position(|join| join.number == number)
    }

    /// A join that waits for what the join of this number reads.
    fn join_that_reads(&self, number: u32) -> Option<usize> {
        let waits = |join: &Joining| {
            join.number == number || matches!(join.page, Reading::Shared(by) if by == number)
        };
        self.joins.iter().position(waits)
    }

    /// The first join that waits for nothing any more. Joins are answered in any order: each is bounded by the release point of its own moment.
    fn ready_join(&mut self) -> Option<usize> {
        if self.awaits_bus() {
            return None;
        }
        self.joins.iter().position(|join| {
            let listed = matches!(join.roster, Listing::NotNeeded | Listing::Done(_));
            let marked = join.marks.as_ref().is_none_or(|marks| marks.is_whole());
            let read = match join.page {
                // Another join may be finding out where the channel stands.
                Reading::NotNeeded => !self.keeps_history() || self.order.at().is_some(),
                Reading::Due | Reading::Missed | Reading::Shared(_) | Reading::Newest => false,
                Reading::Done { .. } => !self.is_behind(join),
            };
            read && listed && marked
        })
    }

    /// Whether somebody joins who has seen more elsewhere than this node has released: the bus is late, and the log must be read.
    pub(super) fn is_behind_joins(&self) -> bool {
        self.joins.iter().any(|join| self.is_behind(join))
    }

    fn is_behind(&self, join: &Joining) -> bool {
        let Reading::Done { recovered: true, .. } = join.page else { return false };
        let ahead = |(since, at): (Position, Position)| since.epoch != at.epoch || since.seq > at.seq;
        join.request.since.zip(self.order.at()).is_some_and(ahead)
    }
}

/// Whether `page`, read behind `since`, is all that was missed.
fn goes_on(since: Position, page: &Page) -> bool {
    let begins = page.messages.first().map_or(page.head, |message| message.seq() - 1);
    let ends = page.messages.last().map_or(since.seq, |message| message.seq());
    since.epoch == page.epoch && since.seq <= page.head && begins == since.seq && ends == page.head
}
