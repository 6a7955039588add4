//! When users were last connected, in the store's file.

use std::sync::Arc;

use rusqlite::OptionalExtension;
use xpush_core::ports::Done;
use xpush_core::ports::online::{LastSeen, State, Stays, Transition};
use xpush_core::{App, UnixMillis, User};

use crate::store::Store;

/// [`LastSeen`] on a [`Store`].
pub struct SqliteLastSeen {
    store: Arc<Store>,
}

impl SqliteLastSeen {
    /// What this file knows.
    pub const fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl LastSeen for SqliteLastSeen {
    fn note(&self, seen: Vec<(App, User, UnixMillis)>, done: Done<()>) {
        self.store.write(
            move |writing| {
                let sql = "INSERT INTO last_seen (app, user, at) VALUES (?1, ?2, ?3)
                    ON CONFLICT DO UPDATE SET at = max(at, excluded.at)";
                let mut statement = writing.prepare_cached(sql)?;
                for (app, user, at) in &seen {
                    let at = i64::try_from(*at).unwrap_or(i64::MAX);
                    statement.execute((app.as_str(), user.as_str(), at))?;
                }
                Ok(())
            },
            done,
        );
    }

    fn recall(&self, app: &App, users: Vec<User>, done: Done<Vec<Option<UnixMillis>>>) {
        let app = app.clone();
        self.store.read(
            move |connection| {
                let mut statement =
                    connection.prepare_cached("SELECT at FROM last_seen WHERE app = ?1 AND user = ?2")?;
                let recall = |user: &User| {
                    let at: Option<i64> =
                        statement.query_row((app.as_str(), user.as_str()), |row| row.get(0)).optional()?;
                    Ok(at.and_then(|at| UnixMillis::try_from(at).ok()))
                };
                users.iter().map(recall).collect()
            },
            done,
        );
    }
}

impl Stays for SqliteLastSeen {
    fn turn(&self, transitions: Vec<Transition>, done: Done<()>) {
        self.store.write(
            move |writing| {
                let sql = "INSERT INTO last_seen (app, user, at, present) VALUES (?1, ?2, ?3, ?4)
                    ON CONFLICT DO UPDATE SET at = max(at, excluded.at), present = excluded.present";
                let mut statement = writing.prepare_cached(sql)?;
                for Transition { app, user, state, at } in &transitions {
                    let at = i64::try_from(*at).unwrap_or(i64::MAX);
                    statement.execute((app.as_str(), user.as_str(), at, present(*state)))?;
                }
                Ok(())
            },
            done,
        );
    }

    fn left_over(&self, done: Done<Vec<Transition>>) {
        self.store.read(
            |connection| {
                let sql = "SELECT app, user, at, present FROM last_seen WHERE present > 0 ORDER BY at";
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query([])?;
                let mut left = Vec::new();
                while let Some(row) = rows.next()? {
                    let names = (App::new(row.get_ref(0)?.as_str()?), User::new(row.get_ref(1)?.as_str()?));
                    let state = if row.get::<_, i64>(3)? == present(State::Away) {
                        State::Away
                    } else {
                        State::Online
                    };
                    if let (Ok(app), Ok(user)) = names {
                        left.push(Transition { app, user, state, at: row.get::<_, i64>(2)?.unsigned_abs() });
                    }
                }
                Ok(left)
            },
            done,
        );
    }
}

/// As it is kept.
const fn present(state: State) -> i64 {
    match state {
        State::Offline => 0,
        State::Away => 1,
        State::Online => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;
    use xpush_testkit::sample::{app, user};
    use xpush_testkit::suite::answer;

    #[test]
    fn a_time_is_known_over_a_restart_and_never_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let open =
            || SqliteLastSeen::new(Store::open(folder.path().join("xpush.db"), Options::default()).unwrap());
        let note = |at: &SqliteLastSeen, seen| answer(|done| at.note(seen, done)).unwrap();
        let recall = |at: &SqliteLastSeen, of: &str, names: [&str; 3]| {
            answer(|done| at.recall(&app(of), names.map(user).to_vec(), done)).unwrap()
        };
        let first = open();
        note(
            &first,
            vec![
                (app("demo"), user("ann"), 7),
                (app("other"), user("ann"), 9),
                (app("demo"), user("bob"), 8),
            ],
        );
        note(&first, vec![(app("demo"), user("ann"), 6)]);
        drop(first);
        let second = open();
        assert_eq!(recall(&second, "demo", ["bob", "eve", "ann"]), [Some(8), None, Some(7)]);
        assert_eq!(recall(&second, "other", ["bob", "eve", "ann"]), [None, None, Some(9)]);
    }

    #[test]
    fn who_was_there_when_it_closed_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let open =
            || SqliteLastSeen::new(Store::open(folder.path().join("xpush.db"), Options::default()).unwrap());
        let turns = |name, state, at| Transition { app: app("demo"), user: user(name), state, at };
        let first = open();
        let all = vec![
            turns("ann", State::Online, 9),
            turns("bob", State::Online, 7),
            turns("cid", State::Online, 7),
            turns("bob", State::Away, 8),
            turns("cid", State::Offline, 9),
        ];
        answer(|done| first.turn(all, done)).unwrap();
        drop(first);
        let left = answer(|done| open().left_over(done)).unwrap();
        assert_eq!(left, [turns("bob", State::Away, 8), turns("ann", State::Online, 9)]);
    }
}
