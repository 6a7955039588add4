//! What servers ask each other of themselves, so that whoever asks one of them is told of all.
//!
//! Both travel on node topics of the [bus](super::bus), where they may be lost: whoever asks waits for so long, and says who has not answered.

use std::collections::BTreeSet;

use crate::codec::{Reader, Writer};
use crate::message::RecordError;
use crate::names::{App, Channel, User};
use crate::ports::backend::LiveChannel;

/// Digests of users that a server tells at most, over all apps that it is asked about: as many as there are, their number is exact.
const DIGESTS: usize = 4_096;
/// Digests of one app's users, when it is asked about many.
const FEWEST: usize = 64;

/// A question to the node that the topic names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Of this origin.
    pub number: u32,
    /// What it asks.
    pub asked: Asked,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The channels of an app that are followed, by name: at most `limit` of those that begin with `prefix` and come behind `after`.
    Followed {
        /// Whose.
        app: App,
        /// How they begin.
        prefix: Box<str>,
        /// What they come behind.
        after: Option<Box<str>>,
        /// How many.
        limit: usize,
    },
    /// What there is of these apps, and what was counted.
    Census(Vec<App>),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The inquiry's.
    pub number: u32,
    /// What is so.
    pub told: Told,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// By name.
    Followed(Vec<LiveChannel>),
    /// The apps in the order asked for.
    Census(Counters, Vec<Crowd>),
}

/// What a node has counted since it began, and its connections at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections now.
    pub connections: u64,
    /// Commands taken.
    pub commands: u64,
    /// Publications of its own clients and back ends.
    pub published: u64,
    /// Messages put into outboxes.
    pub delivered: u64,
    /// Requests and connections refused.
    pub refused: u64,
}

/// An app's users at a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crowd {
    /// Who are connected.
    pub users: u64,
    /// Their connections.
    pub connections: u64,
    /// The smallest of the users' digests, ascending; all of them when there are as many as users.
    digests: Vec<u64>,
}

impl Crowd {
    /// A crowd of these users, each with its number of connections, as one of `apps` that are asked about.
    pub fn of<'a>(users: impl Iterator<Item = (&'a User, u64)>, apps: usize) -> Self {
        let most = (DIGESTS / apps.max(1)).max(FEWEST);
        let mut crowd = Self::default();
        let mut digests = BTreeSet::new();
        for (user, connections) in users {
            crowd.users += 1;
            crowd.connections += connections;
            digests.insert(user.hash64());
            if digests.len() > most {
                digests.pop_last();
            }
        }
        crowd.digests = digests.into_iter().collect();
        crowd
    }

    /// Up to which digest it names all users.
    fn bound(&self) -> u64 {
        let whole = self.digests.len() as u64 == self.users;
        if whole { u64::MAX } else { self.digests.last().copied().unwrap_or(u64::MAX) }
    }

    /// How many users there are in several crowds, of whom some may be in more than one. Exact while each crowd names all of its users; else as near as their digests, which
    /// are spread evenly, tell: with 4,096 of them 2 % off as a rule.
    pub fn together<'a>(crowds: impl Iterator<Item = &'a Self> + Clone) -> u64 {
        let bound = crowds.clone().map(Self::bound).min().unwrap_or(u64::MAX);
        let digests = crowds.flat_map(|crowd| &crowd.digests).filter(|digest| **digest <= bound);
        let seen = digests.collect::<BTreeSet<_>>().len() as u64;
        if bound == u64::MAX {
            return seen;
        }
        let all = u128::from(seen) * u128::from(u64::MAX) / u128::from(bound.max(1));
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

impl Inquiry {
    pub(super) fn encode(&self, out: &mut Writer) {
        out.varint(u64::from(self.number));
        match &self.asked {
            Asked::Followed { app, prefix, after, limit } => {
                out.byte(0);
                out.text(app.as_str());
                out.text(prefix);
                out.option(after.as_deref(), Writer::text);
                out.varint(*limit as u64);
            }
            Asked::Census(apps) => {
                out.byte(1);
                out.varint(apps.len() as u64);
                apps.iter().for_each(|app| out.text(app.as_str()));
            }
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, RecordError> {
        let number = small(input)?;
        let asked = match input.byte()? {
            0 => Asked::Followed {
                app: app(input)?,
                prefix: input.text()?.into(),
                after: input.option(|input| Ok(input.text()?.into()))?,
                limit: usize::try_from(input.varint()?).map_err(|_| RecordError::Corrupt)?,
            },
            1 => Asked::Census(list(input, app)?),
            _ => return Err(RecordError::Corrupt),
        };
        Ok(Self { number, asked })
    }
}

impl Report {
    pub(super) fn encode(&self, out: &mut Writer) {
        out.varint(u64::from(self.number));
        match &self.told {
            Told::Followed(channels) => {
                out.byte(0);
                out.varint(channels.len() as u64);
                for LiveChannel { channel, subscribers } in channels {
                    out.text(channel.as_str());
                    out.varint(*subscribers);
                }
            }
            Told::Census(counters, crowds) => {
                out.byte(1);
                let Counters { connections, commands, published, delivered, refused } = *counters;
                [connections, commands, published, delivered, refused]
                    .into_iter()
                    .for_each(|count| out.varint(count));
                out.varint(crowds.len() as u64);
                for Crowd { users, connections, digests } in crowds {
                    out.varint(*users);
                    out.varint(*connections);
                    out.varint(digests.len() as u64);
                    digests.iter().for_each(|digest| out.varint(*digest));
                }
            }
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, RecordError> {
        let number = small(input)?;
        let told = match input.byte()? {
            0 => Told::Followed(list(input, |input| {
                let channel = Channel::new(input.text()?).map_err(|_| RecordError::Corrupt)?;
                Ok(LiveChannel { channel, subscribers: input.varint()? })
            })?),
            1 => {
                let counters = Counters {
                    connections: input.varint()?,
                    commands: input.varint()?,
                    published: input.varint()?,
                    delivered: input.varint()?,
                    refused: input.varint()?,
                };
                let crowd = |input: &mut Reader<'_>| {
                    let (users, connections) = (input.varint()?, input.varint()?);
                    Ok(Crowd { users, connections, digests: list(input, |input| input.varint())? })
                };
                Told::Census(counters, list(input, crowd)?)
            }
            _ => return Err(RecordError::Corrupt),
        };
        Ok(Self { number, told })
    }
}

/// As many as are said to come; what is not there ends it.
fn list<T>(
    input: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    let mut items = Vec::new();
    for _ in 0..input.varint()? {
        items.push(read(input)?);
    }
    Ok(items)
}

fn small(input: &mut Reader<'_>) -> Result<u32, RecordError> {
    u32::try_from(input.varint()?).map_err(|_| RecordError::Corrupt)
}

fn app(input: &mut Reader<'_>) -> Result<App, RecordError> {
    App::new(input.text()?).map_err(|_| RecordError::Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(users: std::ops::Range<u32>) -> Crowd {
        let users: Vec<User> = users.map(|number| User::new(&format!("user-{number}")).unwrap()).collect();
        Crowd::of(users.iter().map(|user| (user, 2)), 1)
    }

    #[test]
    fn who_is_at_two_servers_is_one_user() {
        let (one, other) = (crowd(0..1_000), crowd(500..3_000));
        assert_eq!((one.users, one.connections), (1_000, 2_000));
        assert_eq!(Crowd::together([&one, &other].into_iter()), 3_000);
        assert_eq!(Crowd::together([].into_iter()), 0);
    }

    #[test]
    fn of_very_many_users_their_number_is_nearly_right() {
        let crowds = [crowd(0..40_000), crowd(20_000..60_000), crowd(0..10)];
        assert!(crowds.iter().all(|crowd| crowd.digests.len() <= DIGESTS));
        let together = Crowd::together(crowds.iter());
        assert!((57_000..=63_000).contains(&together), "{together} of 60,000");
    }
}
