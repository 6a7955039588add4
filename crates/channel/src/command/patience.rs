//! Commands that only a store can answer: each is answered within two seconds, whatever the store does.

use std::collections::HashMap;

use xpush_core::{Code, Problem};

use super::{Asked, Command};
use crate::fanout::inbox::Handle;
use crate::shard::{Shard, Timer};

/// For how long a command waits for a store, in ms.
const PATIENCE_MS: u64 = 2_000;

/// The commands of a shard that wait for a store, by the numbers of their questions.
#[derive(Default)]
pub(crate) struct Awaited(HashMap<u32, (Handle, Asked), foldhash::fast::RandomState>);

impl Shard {
    /// A command is about to ask a store: what the answer is to be given to.
    pub(super) fn ask_store(&mut self, to: Handle, asked: Asked) -> Asked {
        // 0 is the number of those that ask none.
        let number = self.next_number().max(1);
        let asked = Asked { question: number, ..asked };
        self.awaited.0.insert(number, (to, asked));
        self.arm(PATIENCE_MS, Timer::Question(number));
        asked
    }

    /// Whether a command has not been answered yet.
    pub(super) fn is_unanswered(&mut self, asked: Asked) -> bool {
        asked.question == 0 || self.awaited.0.remove(&asked.question).is_some()
    }

    /// The store has had its time. What it was to change may have changed.
    pub(crate) fn question_is_old(&mut self, number: u32) {
        let Some((to, asked)) = self.awaited.0.remove(&number) else { return };
        let problem = match asked.command {
            Command::Read | Command::Delivered => Code::OutcomeUnknown.into(),
            _ => Problem::new(Code::Unavailable, "the store does not answer"),
        };
        self.fail(to, asked, &problem);
    }
}
