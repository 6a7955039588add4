//! What all nodes have to tell together: this one asks the others over the bus, waits for so long, and says who has not answered. One shard does it for the node.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xpush_core::NodeId;
use xpush_core::ports::backend::{Census, Everywhere, LiveChannel};
use xpush_core::ports::bus::{Event, Topic};
use xpush_core::ports::inquiry::{Asked, Inquiry, Report, Told};

use crate::backend::Tally;
use crate::fanout::inbox::Inbox;
use crate::shard::{Shard, Timer};

/// For how long others are waited for, in ms.
const PATIENCE_MS: u64 = 1_000;

/// Something that all nodes are to be asked.
pub(crate) struct Inquire {
    pub(crate) asked: Asked,
    pub(crate) done: Box<dyn FnOnce(Answers) + Send>,
}

/// What nodes have said, by name.
pub(crate) struct Answers {
    told: Vec<(NodeId, Box<str>, Told)>,
    missing: Vec<Box<str>>,
}

/// Inquiries that not everybody has answered.
#[derive(Default)]
pub(crate) struct Inquiries(HashMap<u32, Open, foldhash::fast::RandomState>);

struct Open {
    /// Who was asked, with their names, and what they have said.
    nodes: Vec<(NodeId, Box<str>, Option<Told>)>,
    done: Box<dyn FnOnce(Answers) + Send>,
}

impl Open {
    fn end(self) {
        let (mut told, mut missing) = (Vec::new(), Vec::new());
        for (node, name, said) in self.nodes {
            match said {
                Some(said) => told.push((node, name, said)),
                None => missing.push(name),
            }
        }
        (self.done)(Answers { told, missing });
    }
}

impl Shard {
    pub(crate) fn inquire(&mut self, inquire: Inquire) {
        let Inquire { asked, done } = inquire;
        let own = self.node.id().clone();
        let view = self.node.newest_view();
        let mut nodes: Vec<(NodeId, Box<str>, Option<Told>)> = Vec::new();
        for node in view.iter().flat_map(|view| view.channel_nodes()) {
            nodes.push((node.id.clone(), node.name.as_str().into(), None));
        }
        // A session server has nothing to tell of itself; one that others do not see (any more) has.
        let known = view.as_ref().is_some_and(|view| view.nodes.iter().any(|node| node.id == own));
        if !known {
            nodes.push((own.clone(), own.as_str().into(), None));
        }
        nodes.sort_by(|a, b| a.1.cmp(&b.1));
        let inquiry = Arc::new(Inquiry { number: self.next_number(), asked });
        for (node, ..) in &nodes {
            match *node == own {
                // It comes back by the mailbox, in a later turn.
                true => self.report(&own, &inquiry),
                false => {
                    self.node.bus().publish(&Topic::Node(node.clone()), Event::Inquiry(inquiry.clone()));
                }
            }
        }
        let open = Open { nodes, done };
        if open.nodes.is_empty() {
            return open.end();
        }
        self.inquiries.0.insert(inquiry.number, open);
        self.arm(PATIENCE_MS, Timer::Inquiry(inquiry.number));
    }

    /// Somebody wants to know: this node itself, or another one.
    pub(crate) fn report(&mut self, origin: &NodeId, inquiry: &Inquiry) {
        let (node, origin, number) = (self.node.clone(), origin.clone(), inquiry.number);
        let mailbox = self.mailbox();
        let answer = move |told| {
            let report = Arc::new(Report { number, told });
            match origin == *node.id() {
                true => mailbox.post(Inbox::Told(origin, report)),
                false => node.bus().publish(&Topic::Node(origin), Event::Report(report)),
            }
        };
        match &inquiry.asked {
            Asked::Followed { app, prefix, after, limit } => {
                let which = (app.clone(), prefix.clone(), after.clone());
                let done = Box::new(move |channels| answer(Told::Followed(channels)));
                let tally = Arc::new(Tally::new(which, *limit, usize::from(self.node.shards()), done));
                self.node.post_all(|| Inbox::Tally(tally.clone()));
            }
            Asked::Census(apps) => {
                let crowds = apps.iter().map(|app| self.node.crowd(app, apps.len())).collect();
                answer(Told::Census(self.node.counted(), crowds));
            }
        }
    }

    /// A node has answered.
    pub(crate) fn reported(&mut self, origin: &NodeId, report: &Report) {
        let Some(open) = self.inquiries.0.get_mut(&report.number) else { return };
        if let Some((_, _, told)) = open.nodes.iter_mut().find(|(node, ..)| node == origin) {
            *told = Some(report.told.clone());
        }
        if open.nodes.iter().all(|(_, _, told)| told.is_some())
            && let Some(open) = self.inquiries.0.remove(&report.number)
        {
            open.end();
        }
    }

    /// Who has not answered by now is not waited for.
    pub(crate) fn inquiry_is_old(&mut self, number: u32) {
        if let Some(open) = self.inquiries.0.remove(&number) {
            open.end();
        }
    }
}

/// The first channels of all. Whatever is among them is among the first of each node that has it, so its subscribers are all there.
pub(crate) fn followed(answers: Answers, limit: usize) -> Everywhere<Vec<LiveChannel>> {
    let mut channels = BTreeMap::new();
    for (.., told) in answers.told {
        let Told::Followed(told) = told else { continue };
        for LiveChannel { channel, subscribers } in told {
            *channels.entry(channel).or_default() += subscribers;
        }
    }
    let channels = channels.into_iter().take(limit);
    let told = channels.map(|(channel, subscribers)| LiveChannel { channel, subscribers }).collect();
    Everywhere { told, missing: answers.missing }
}

pub(crate) fn census(answers: Answers) -> Everywhere<Vec<Census>> {
    let census = answers.told.into_iter().filter_map(|(node, name, told)| match told {
        Told::Census(counters, apps) => Some(Census { node, name, counters, apps }),
        Told::Followed(_) => None,
    });
    Everywhere { told: census.collect(), missing: answers.missing }
}
