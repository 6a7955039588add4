//! The end of a user: nobody gets in as it any more, and everything that is kept of it goes, a little at a time.
//!
//! What has begun goes on after a restart, on any node: [`Eraser`] looks for it. First the user is barred, and its entries in the directory go; when its connections have
//! ended everywhere, the logs take its messages out step by step; then the bar itself goes, and the id is free; when every node has heard of that, nothing says any more that there
//! was one.
//!
//! All nodes do this at once, and none of them owns an erasure. What keeps them from harming whoever has the id next is the bar: only who was there when the erasure began is
//! barred, and only what was there before the bar went is removed.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};

use xpush_core::ports::PortError;
use xpush_core::ports::directory::{
    AuditRecord, Directory, Entry, Expected, Key, Listing, MemberRecord, Record, UserRecord,
};
use xpush_core::ports::erasure::{Erasure, NOBODY, Pending, Step};
use xpush_core::{App, Channel, Clock, Role, UnixMillis, User};

use crate::access::{heir, is_owner};
use crate::accounts::user_record;
use crate::administration::without_member;
use crate::port::{ask, ask_within};
use crate::store::Store;

/// From when nobody is let in until the last connection has ended, and been told to be offline, on every node: 2 s for the news, 5 s of grace, and some for slow ones. In ms.
pub const SETTLING: u64 = 10_000;

/// From when a bar has gone until every node has heard of it: from then on it may be forgotten that there was one. In ms.
const HEARD: u64 = 2_500;

/// How long a log may take to forget that there was a user.
const FORGETTING: Duration = Duration::from_secs(60);

/// Between two looks for what others have begun, or what was cut short.
const PACE: Duration = Duration::from_secs(3);

/// Entries of the log that are looked at together.
const PAGE: usize = 500;

/// Between two steps, so that whoever publishes meanwhile comes first.
const BREATH: Duration = Duration::from_millis(2);

/// What [`Eraser`] stands on.
#[derive(Clone)]
pub struct Parts {
    /// Whom users' entries are removed from.
    pub directory: Arc<dyn Directory>,
    /// The log that lasts: it remembers what has begun.
    pub lasting: Arc<dyn Erasure>,
    /// What this process alone holds.
    pub fleeting: Vec<Arc<dyn Erasure>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Erases users in the background.
#[derive(Clone)]
pub struct Eraser(Arc<Core>);

struct Core {
    store: Store,
    lasting: Arc<dyn Erasure>,
    fleeting: Vec<Arc<dyn Erasure>>,
    clock: Arc<dyn Clock>,
    poked: Notify,
}

impl Eraser {
    /// Begins to look for what is to be erased, as long as the runtime lives.
    pub fn start(parts: Parts, runtime: &Handle) -> Self {
        let eraser = Self(Arc::new(Core::new(parts)));
        let core = eraser.0.clone();
        runtime.spawn(async move { core.run().await });
        eraser
    }

    /// From now on the user is nobody. Answers when nothing can stop it any more; the messages go in the background.
    pub(crate) async fn begin(&self, app: &App, user: &User) -> Result<(), PortError> {
        self.0.begin(app, user).await?;
        self.0.poked.notify_one();
        Ok(())
    }

    /// Who is being erased, the earliest first.
    pub(crate) async fn pending(&self) -> Result<Vec<Pending>, PortError> {
        ask(|done| self.0.lasting.pending(done)).await
    }

    /// The log that lasts.
    pub(crate) fn lasting(&self) -> Arc<dyn Erasure> {
        self.0.lasting.clone()
    }
}

/// Erases one user while the caller waits; `told` hears how far it is, again and again: of how many ms or how much work, and how many are done.
pub async fn erase(
    parts: Parts,
    app: &App,
    user: &User,
    mut told: impl FnMut(Progress),
) -> Result<(), PortError> {
    let core = Core::new(parts);
    let barred_at = core.begin(app, user).await?;
    loop {
        let waited = core.clock.wall().saturating_sub(barred_at);
        told(Progress::Settling { ms: waited.min(SETTLING), of: SETTLING });
        if waited >= SETTLING {
            break;
        }
        sleep(Duration::from_millis(100.min(SETTLING - waited))).await;
    }
    core.take_out(&core.lasting, app, user, |step| told(Progress::Erasing(*step))).await?;
    if core.free(app, user).await? {
        sleep(Duration::from_millis(HEARD)).await;
        core.end(app, user).await?;
    }
    Ok(())
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The user's connections end.
    Settling {
        /// For how long.
        ms: u64,
        /// For how long in all.
        of: u64,
    },
    /// Its messages go.
    Erasing(Step),
}

/// What a process has seen of erasures, each of them since when.
#[derive(Default)]
struct Seen {
    /// What its own logs have been told to forget, until they have.
    told: BTreeMap<(App, User), UnixMillis>,
    /// Whose bar has gone, until that is no longer pending.
    free: BTreeMap<(App, User), UnixMillis>,
}

impl Core {
    fn new(parts: Parts) -> Self {
        let Parts { directory, lasting, fleeting, clock } = parts;
        Self { store: Store::new(directory), lasting, fleeting, clock, poked: Notify::new() }
    }

    async fn run(&self) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Seen::default();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.poked.notified() => {}
            }
            if let Err(error) = self.round(&mut seen).await {
                tracing::warn!(%error, "an erasure was held up; it goes on");
            }
        }
    }

    /// Goes on with everything that is pending.
    async fn round(&self, seen: &mut Seen) -> Result<(), PortError> {
        let Seen { told, free } = seen;
        let pending = ask(|done| self.lasting.pending(done)).await?;
        // First, as nothing that was read is as old then.
        self.end_free(&pending, free).await?;
        for Pending { app, user, .. } in &pending {
            if let btree_map::Entry::Vacant(place) = told.entry((app.clone(), user.clone())) {
                for log in &self.fleeting {
                    ask(|done| log.begin(app, user, self.clock.wall(), done)).await?;
                }
                place.insert(self.clock.wall());
            }
        }
        // What others have ended already is still in this process's memory.
        let due: Vec<_> =
            told.iter().filter(|(_, since)| self.is_settled(**since)).map(|(name, _)| name.clone()).collect();
        for (app, user) in due {
            for log in &self.fleeting {
                self.take_out(log, &app, &user, |_| {}).await?;
                ask(|done| log.end(&app, &user, done)).await?;
            }
            told.remove(&(app, user));
        }
        for Pending { app, user, since } in pending {
            // Not barred yet is who was there when a beginning was cut short.
            let whom = |record: Option<&UserRecord>| record.is_some_and(|record| was_there(record, since));
            match self.bar(&app, &user, whom).await? {
                Some(barred_at) if self.is_settled(barred_at) => {
                    self.take_out(&self.lasting, &app, &user, |_| {}).await?;
                    if self.free(&app, &user).await? {
                        free.insert((app, user), self.clock.wall());
                    }
                }
                Some(_) => {}
                None => drop(free.entry((app, user)).or_insert_with(|| self.clock.wall())),
            }
        }
        Ok(())
    }

    /// Whether what was barred then has ended everywhere.
    fn is_settled(&self, since: UnixMillis) -> bool {
        self.clock.wall().saturating_sub(since) >= SETTLING
    }

    /// Ends what is left of those whose bar has gone.
    async fn end_free(
        &self,
        pending: &[Pending],
        free: &mut BTreeMap<(App, User), UnixMillis>,
    ) -> Result<(), PortError> {
        let pending: BTreeSet<_> = pending.iter().map(|one| (&one.app, &one.user)).collect();
        for ((app, user), since) in free.clone() {
            let is_pending = pending.contains(&(&app, &user));
            if self.is_barred(&app, &user).await? {
                // It has begun anew. If it did while the last one ended, its note went with that one's.
                if !is_pending {
                    ask(|done| self.lasting.begin(&app, &user, self.clock.wall(), done)).await?;
                }
            } else if is_pending {
                if self.clock.wall().saturating_sub(since) >= HEARD {
                    self.end(&app, &user).await?;
                    tracing::info!(%app, "erased a user");
                }
                continue;
            }
            free.remove(&(app, user));
        }
        Ok(())
    }

    /// Since when the user is barred, ms since 1970.
    async fn begin(&self, app: &App, user: &User) -> Result<UnixMillis, PortError> {
        let pending = ask(|done| self.lasting.pending(done)).await?;
        if let Some(last) = pending.iter().find(|one| one.app == *app && one.user == *user)
            && !self.record(app, user).await?.is_some_and(|record| was_there(&record, last.since))
        {
            // Of who had the id before everything is gone. This one's messages are looked for from the beginning.
            self.end(app, user).await?;
        }
        ask(|done| self.lasting.begin(app, user, self.clock.wall(), done)).await?;
        let barred_at = self.bar(app, user, |_| true).await?;
        self.clear(app, user).await?;
        Ok(barred_at.unwrap_or_else(|| self.clock.wall()))
    }

    /// Lets the user in no more, if it is barred already or one of `whom`: since when it is so, ms since 1970.
    async fn bar(
        &self,
        app: &App,
        user: &User,
        whom: impl Fn(Option<&UserRecord>) -> bool,
    ) -> Result<Option<UnixMillis>, PortError> {
        let now = self.clock.wall();
        let mut since = None;
        self.store
            .change(&Key::User(app.clone(), user.clone()), |record| {
                let record = user_record(record);
                let barred_at = record.filter(|record| is_barred(record)).map(|bar| bar.tokens_valid_from);
                since = barred_at.filter(|at| *at <= now);
                if since.is_some() || barred_at.is_none() && !whom(record) {
                    return None;
                }
                since = Some(now);
                Some(Record::User(Box::new(barred(now))))
            })
            .await?;
        Ok(since)
    }

    async fn record(&self, app: &App, user: &User) -> Result<Option<UserRecord>, PortError> {
        let entry = self.store.get(&Key::User(app.clone(), user.clone())).await?;
        Ok(entry.and_then(|entry| user_record(Some(&entry.record)).cloned()))
    }

    /// Whether the user is barred now.
    async fn is_barred(&self, app: &App, user: &User) -> Result<bool, PortError> {
        Ok(self.record(app, user).await?.is_some_and(|record| is_barred(&record)))
    }

    /// Removes everything of the user but its bar.
    async fn clear(&self, app: &App, user: &User) -> Result<(), PortError> {
        for listing in Listing::of_user(app, user) {
            let entries = self.store.all(&listing).await?;
            if !self.is_barred(app, user).await? {
                // Somebody else has ended it, and these may be another's.
                return Ok(());
            }
            for entry in entries {
                if let Listing::Memberships(..) = listing {
                    self.hand_over(&entry, user).await?;
                }
                self.store.apply(entry.key, Expected::Revision(entry.revision), None).await?;
            }
        }
        Ok(())
    }

    /// A channel that loses its last owner gets another, as if the owner had left.
    async fn hand_over(&self, entry: &Entry, user: &User) -> Result<(), PortError> {
        let owns = |record: &MemberRecord| record.role.as_ref().is_some_and(is_owner);
        let (Key::Member(channel, _), Record::Member(own)) = (&entry.key, &entry.record) else {
            return Ok(());
        };
        if !owns(own) {
            return Ok(());
        }
        let members = self.store.all(&Listing::Members(channel.clone())).await?;
        let members = members.iter().filter_map(|entry| match (&entry.key, &entry.record) {
            (Key::Member(_, member), Record::Member(record)) if member != user => Some((member, record)),
            _ => None,
        });
        let members: Vec<_> = members.collect();
        if members.iter().any(|(_, record)| owns(record)) {
            return Ok(());
        }
        let Some(heir) = heir(members.into_iter()) else { return Ok(()) };
        let key = Key::Member(channel.clone(), heir.clone());
        let owner = Role::new("owner").ok();
        let change = |record: Option<&Record>| match record {
            Some(Record::Member(record)) => {
                Some(Record::Member(MemberRecord { role: owner.clone(), ..record.clone() }))
            }
            // Who has left meanwhile owns nothing.
            _ => None,
        };
        self.store.change(&key, change).await.map(drop)
    }

    async fn take_out(
        &self,
        log: &Arc<dyn Erasure>,
        app: &App,
        user: &User,
        mut told: impl FnMut(&Step),
    ) -> Result<(), PortError> {
        loop {
            let step = ask(|done| log.step(app, user, done)).await?;
            told(&step);
            if step.ended {
                return Ok(());
            }
            sleep(BREATH).await;
        }
    }

    /// What operators did with the user stays in the audit log; with whom, it tells no more.
    async fn leave_the_log(&self, app: &App, user: &User) -> Result<(), PortError> {
        let Ok(nobody) = User::new(NOBODY) else { return Ok(()) };
        let listing = Listing::AuditOf(app.clone());
        let mut after = None;
        loop {
            let page = self.store.page(&listing, after, PAGE).await?;
            let last = page.len() < PAGE;
            after = page.last().map(|entry| entry.key.clone());
            if !self.is_barred(app, user).await? {
                return Ok(());
            }
            for entry in page {
                let Record::Audit(mut record) = entry.record else { continue };
                let others = record.after.as_deref().filter(|_| *record.what == *"members.change");
                if names(&record, user) {
                    record.user =
                        record.user.map(|known| if known == *user { nobody.clone() } else { known });
                    (record.target, record.before, record.after) = (None, None, None);
                } else if let Some(after) = others.and_then(|after| without_member(user, after)) {
                    record.after = Some(after);
                } else {
                    continue;
                }
                self.store.apply(entry.key, Expected::Any, Some(Record::Audit(record))).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Removes what the directory has of the user, the bar last: whether the id is free.
    async fn free(&self, app: &App, user: &User) -> Result<bool, PortError> {
        let key = Key::User(app.clone(), user.clone());
        let Some(Entry { record: Record::User(record), revision, .. }) = self.store.get(&key).await? else {
            return Ok(true);
        };
        if !is_barred(&record) || !self.is_settled(record.tokens_valid_from) {
            // Somebody else has removed the bar that was looked at, and perhaps it has begun anew.
            return Ok(!is_barred(&record));
        }
        // Who was just about to be let in may have left something.
        self.clear(app, user).await?;
        self.leave_the_log(app, user).await?;
        let removed = self.store.apply(key, Expected::Revision(revision), None).await?;
        Ok(removed || !self.is_barred(app, user).await?)
    }

    /// Nothing says any more that there was such a user.
    async fn end(&self, app: &App, user: &User) -> Result<(), PortError> {
        ask_within(FORGETTING, |done| self.lasting.end(app, user, done)).await
    }
}

/// Whether this is who was to be erased then, barred or not yet: whoever has the id next comes later.
fn was_there(record: &UserRecord, since: UnixMillis) -> bool {
    is_barred(record) || record.created_at <= since
}

/// Whether an entry of the log is about a user, or about what only this user has.
fn names(record: &AuditRecord, user: &User) -> bool {
    let target = record.target.as_deref();
    let blocked = ["user.block", "user.unblock"].contains(&&*record.what) && target == Some(user.as_str());
    let channel = target.and_then(|target| Channel::new(target.split(' ').next()?).ok());
    let owner = channel.and_then(|channel| channel.owner()).map(|(owner, _)| owner);
    record.user.as_ref() == Some(user) || blocked || owner.as_ref() == Some(user)
}

/// Whether this is all that is left of a user who is being erased.
pub(crate) fn is_barred(record: &UserRecord) -> bool {
    *record == barred(record.tokens_valid_from)
}

/// Of a user who is being erased there is only this.
fn barred(now: UnixMillis) -> UserRecord {
    UserRecord { disabled: true, tokens_valid_from: now, ..UserRecord::default() }
}

#[cfg(test)]
mod tests;
