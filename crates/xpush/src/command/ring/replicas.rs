//! How many points a server needs: the spread of keys against them.

use serde_json::{Value, json};
use xpush_core::NodeName;
use xpush_core::placement::{Table, Weight};

use super::fleet::Fleet;
use super::scenario::{Progress, keys};
use crate::command::columns;

/// Fleets of other names, which show how much is chance.
const OTHERS: usize = 24;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) servers: u32,
    pub(super) keys: u32,
    /// From 1 to so many points.
    pub(super) most: u16,
}

/// The answer.
#[derive(Debug)]
pub(super) struct Study {
    pub(super) question: Question,
    /// One fleet, at every number of points.
    pub(super) one: Vec<Spread>,
    /// The same with as many as XPUSH gives a whole server.
    pub(super) full: Spread,
    /// Many fleets, at some.
    pub(super) many: Vec<Band>,
}

/// How unevenly keys are spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub(super) points: u16,
    /// On a classic ring, where a key has one place: standard deviation of the servers' keys, in % of the mean.
    pub(super) classic: f64,
    /// On XPUSH's, where it has two.
    pub(super) ours: f64,
    /// The busiest server's keys there, in times of the mean.
    pub(super) busiest: f64,
}

/// Where the deviations of many fleets are: a tenth is below, a tenth above; in %.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    pub(super) points: u16,
    pub(super) classic: (f64, f64),
    pub(super) ours: (f64, f64),
}

/// Counts.
pub(super) fn study(question: &Question) -> Study {
    let keys = keys(question.keys, &mut Progress::new("keys"));
    let named = Fleet::of(question.servers, 1);
    let mut progress = Progress::new("rings");
    let some = some(question.most);
    let all = (usize::from(question.most) + some.len() * OTHERS) as u64;
    let mut done = 0;
    let mut one = Vec::new();
    for points in 1..=question.most {
        one.push(spread(&named, points, &keys));
        done += 1;
        progress.at(done, all);
    }
    let others: Vec<Fleet> = (1..=OTHERS).map(|number| named.renamed(number)).collect();
    let mut many = Vec::new();
    for points in some {
        let spreads: Vec<Spread> = others.iter().map(|fleet| spread(fleet, points, &keys)).collect();
        let tenths = |deviation: fn(&Spread) -> f64| {
            let mut deviations: Vec<f64> = spreads.iter().map(deviation).collect();
            deviations.sort_by(f64::total_cmp);
            (deviations[OTHERS / 10], deviations[OTHERS - 1 - OTHERS / 10])
        };
        many.push(Band {
            points,
            classic: tenths(|spread| spread.classic),
            ours: tenths(|spread| spread.ours),
        });
        done += OTHERS as u64;
        progress.at(done, all);
    }
    let full = spread(&named, Weight::FULL.points(), &keys);
    Study { question: *question, one, full, many }
}

impl Study {
    /// What chance gives on average, in %, with one place a key: points on a circle, and keys drawn on top.
    pub(super) fn classic(&self, points: u16) -> f64 {
        self.expected(points, 1.0)
    }

    /// The same with two places: a third of the points' variance is left.
    pub(super) fn ours(&self, points: u16) -> f64 {
        self.expected(points, 3.0)
    }

    fn expected(&self, points: u16, by: f64) -> f64 {
        let servers = f64::from(self.question.servers);
        let of_points = (servers - 1.0) / (servers * f64::from(points) + 1.0);
        100.0 * (of_points / by + (self.least() / 100.0).powi(2)).sqrt()
    }

    /// What is left of it with any number of points, in %: the keys are few.
    pub(super) fn least(&self) -> f64 {
        100.0 * ((f64::from(self.question.servers) - 1.0) / f64::from(self.question.keys)).sqrt()
    }

    /// At so many points.
    pub(super) fn at(&self, points: u16) -> Option<Spread> {
        self.one.iter().chain([&self.full]).find(|spread| spread.points == points).copied()
    }

    pub(super) fn tables(&self) -> String {
        let Question { servers, keys, most } = self.question;
        let head = ["points", "classic ring", "expected", "   XPUSH", "expected", "busiest"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let full = self.full.points;
        for points in ROWS.into_iter().filter(|points| *points < most).chain([most, full]) {
            let Some(spread) = self.at(points).filter(|_| rows.len() < 2 || points != most || most != full)
            else {
                continue;
            };
            rows.push(vec![
                format!("{points:>6}"),
                format!("{:>10.1} %", spread.classic),
                format!("{:>6.1} %", self.classic(points)),
                format!("{:>6.1} %", spread.ours),
                format!("{:>6.1} %", self.ours(points)),
                format!("{:>5.2} ×", spread.busiest),
            ]);
        }
        format!(
            "{servers} servers, {keys} keys. Standard deviation of the servers' keys, in % of their mean: on a classic ring, where a key has one \
             place,\nand on XPUSH's, where it has two; beside each what chance gives on average. The busiest server on the latter, in times of the \
             mean.\n\n{}\nXPUSH gives a whole server {full} points. {:.1} % are left with any number of them, because there are only {keys} \
             keys.\n",
            columns(&rows),
            self.least(),
        )
    }

    pub(super) fn json(&self) -> Value {
        let Question { servers, keys, .. } = self.question;
        let one = self.one.iter().chain([&self.full]).map(|spread| {
            json!({
                "points": spread.points,
                "classic": {"deviation_percent": spread.classic, "expected_percent": self.classic(spread.points)},
                "xpush": {
                    "deviation_percent": spread.ours,
                    "expected_percent": self.ours(spread.points),
                    "busiest_by_mean": spread.busiest,
                },
            })
        });
        let tenths = |(low, high): (f64, f64)| json!({"low_percent": low, "high_percent": high});
        let many = self.many.iter().map(|band| {
            json!({"points": band.points, "classic": tenths(band.classic), "xpush": tenths(band.ours)})
        });
        json!({
            "servers": servers,
            "keys": keys,
            "spread": one.collect::<Vec<_>>(),
            "other_fleets": {"count": OTHERS, "tenths": many.collect::<Vec<_>>()},
        })
    }
}

impl Fleet {
    /// As many servers under other names.
    fn renamed(&self, number: usize) -> Self {
        let mut fleet = self.clone();
        for (name, _) in &mut fleet.servers {
            if let Ok(other) = NodeName::new(&format!("fleet-{number}.{name}")) {
                *name = other;
            }
        }
        fleet
    }
}

const ROWS: [u16; 16] = [1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000];

/// Numbers of points that a curve needs: dense where it is steep.
fn some(most: u16) -> Vec<u16> {
    let mut some: Vec<u16> =
        (1..=most).filter(|points| *points <= 12 || points % (points / 12).max(1) == 0).collect();
    if some.last() != Some(&most) {
        some.push(most);
    }
    some
}

fn spread(fleet: &Fleet, points: u16, keys: &[u64]) -> Spread {
    let Ok(ring) = fleet.with_points(points).ring() else {
        return Spread { points, classic: 0.0, ours: 0.0, busiest: 0.0 };
    };
    let table = Table::new(ring);
    let servers = table.ring().nodes().len();
    let (classic, _) = counted(servers, keys.iter().filter_map(|key| table.classic_owner(*key)));
    let (ours, busiest) = counted(servers, keys.iter().filter_map(|key| table.owner(*key)));
    Spread { points, classic, ours, busiest }
}

/// Standard deviation in % of the mean, and the most in times of it.
fn counted(servers: usize, owners: impl Iterator<Item = usize>) -> (f64, f64) {
    let mut owned = vec![0_u32; servers];
    for owner in owners {
        owned[owner] += 1;
    }
    let count = f64::from(u32::try_from(servers.max(1)).unwrap_or(u32::MAX));
    let mean = owned.iter().map(|keys| f64::from(*keys)).sum::<f64>() / count;
    let squares: f64 = owned.iter().map(|keys| (f64::from(*keys) - mean).powi(2)).sum();
    let busiest = owned.iter().max().map_or(0.0, |keys| f64::from(*keys));
    (100.0 * (squares / count).sqrt() / mean, busiest / mean)
}
