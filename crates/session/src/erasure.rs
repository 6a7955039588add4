//! The end of a user: nobody gets in as it any more, and everything that is kept of it goes, a little at a time.
//!
//! What has begun goes on after a restart, on any node: [`Eraser`] looks for it. First the user is barred, and its entries in the directory go; when its connections have
//! ended everywhere, the logs take its messages out step by step; at last the bar itself goes, and the id is free.

use std::collections::{BTreeMap, btree_map};
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
use crate::administration::without_member;
use crate::port::ask;
use crate::store::Store;

/// From when nobody is let in until the last connection has ended, and been told to be offline, on every node: 2 s for the news, 5 s of grace, and some for slow ones. In ms.
pub const SETTLING: u64 = 10_000;

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
    core.begin(app, user).await?;
    let barred_at = core.bar(app, user).await?;
    loop {
        let waited = core.clock.wall().saturating_sub(barred_at);
        told(Progress::Settling { ms: waited.min(SETTLING), of: SETTLING });
        if waited >= SETTLING {
            break;
        }
        sleep(Duration::from_millis(100.min(SETTLING - waited))).await;
    }
    core.take_out(&core.lasting, app, user, |step| told(Progress::Erasing(*step))).await?;
    core.finish(app, user).await
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

impl Core {
    fn new(parts: Parts) -> Self {
        let Parts { directory, lasting, fleeting, clock } = parts;
        Self { store: Store::new(directory), lasting, fleeting, clock, poked: Notify::new() }
    }

    async fn run(&self) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = BTreeMap::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.poked.notified() => {}
            }
            if let Err(error) = self.round(&mut known).await {
                tracing::warn!(%error, "an erasure was held up; it goes on");
            }
        }
    }

    /// Goes on with everything that is pending. `known`: what this process has been told to forget, until it has.
    async fn round(&self, known: &mut BTreeMap<(App, User), UnixMillis>) -> Result<(), PortError> {
        let pending = ask(|done| self.lasting.pending(done)).await?;
        for Pending { app, user, .. } in &pending {
            if let btree_map::Entry::Vacant(place) = known.entry((app.clone(), user.clone())) {
                for log in &self.fleeting {
                    ask(|done| log.begin(app, user, self.clock.wall(), done)).await?;
                }
                place.insert(self.clock.wall());
            }
        }
        // What others have ended already is still in this process's memory.
        let settled = |since: UnixMillis| self.clock.wall().saturating_sub(since) >= SETTLING;
        let due: Vec<_> =
            known.iter().filter(|(_, since)| settled(**since)).map(|(name, _)| name.clone()).collect();
        for (app, user) in due {
            for log in &self.fleeting {
                self.take_out(log, &app, &user, |_| {}).await?;
                ask(|done| log.end(&app, &user, done)).await?;
            }
            known.remove(&(app, user));
        }
        for Pending { app, user, .. } in pending {
            let barred_at = self.bar(&app, &user).await?;
            if settled(barred_at) {
                self.take_out(&self.lasting, &app, &user, |_| {}).await?;
                self.finish(&app, &user).await?;
                tracing::info!(%app, "erased a user");
            }
        }
        Ok(())
    }

    async fn begin(&self, app: &App, user: &User) -> Result<(), PortError> {
        ask(|done| self.lasting.begin(app, user, self.clock.wall(), done)).await?;
        self.bar(app, user).await?;
        self.clear(app, user).await
    }

    /// Lets the user in no more: since when it is so, ms since 1970.
    async fn bar(&self, app: &App, user: &User) -> Result<UnixMillis, PortError> {
        let now = self.clock.wall();
        let mut since = now;
        self.store
            .change(&Key::User(app.clone(), user.clone()), |record| {
                since = now;
                if let Some(Record::User(known)) = record
                    && known.disabled
                    && known.tokens_valid_from <= now
                    && **known == barred(known.tokens_valid_from)
                {
                    since = known.tokens_valid_from;
                    return None;
                }
                Some(Record::User(Box::new(barred(now))))
            })
            .await?;
        Ok(since)
    }

    /// Removes everything of the user but its bar.
    async fn clear(&self, app: &App, user: &User) -> Result<(), PortError> {
        for listing in Listing::of_user(app, user) {
            if let Listing::Memberships(..) = listing {
                for entry in self.store.all(&listing).await? {
                    self.hand_over(&entry, user).await?;
                }
            }
            self.store.clear(&listing).await?;
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

    /// Nothing of it is left, not even that it was erased.
    async fn finish(&self, app: &App, user: &User) -> Result<(), PortError> {
        // Who was just about to be let in may have left something.
        self.clear(app, user).await?;
        self.leave_the_log(app, user).await?;
        self.store.remove(Key::User(app.clone(), user.clone())).await?;
        ask(|done| self.lasting.end(app, user, done)).await
    }
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
