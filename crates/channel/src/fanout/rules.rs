//! What a channel's home does when its rule is another one than when it was opened.

use std::sync::Arc;

use xpush_core::{App, ChannelKey, Code, Problem, Rule};

use super::inbox::HomeRef;
use super::order::Order;
use crate::shard::Shard;

impl Shard {
    /// The rule of a channel as ACCESS has it now: whoever comes may have asked before it changed.
    pub(crate) fn current_rule(&self, channel: &ChannelKey) -> Option<Arc<Rule>> {
        let apps = self.node.access().apps();
        apps.by_name.get(&channel.app)?.rules.find(&channel.name).cloned()
    }

    /// The rules of an app's channels, or of all, may be others: the homes go by the new ones.
    pub(crate) fn homes_take_rules(&mut self, app: Option<&App>) {
        for channel in self.homes.of(app) {
            if let Some((rule, home_ref)) = self.current_rule(&channel).zip(self.homes.find(&channel)) {
                self.adopt_rule(home_ref, rule);
            }
        }
    }

    /// When something else is kept now, the order begins anew: those who follow are told by their shards to subscribe again.
    pub(super) fn adopt_rule(&mut self, home_ref: HomeRef, rule: Arc<Rule>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        if Arc::ptr_eq(&home.rule, &rule) {
            return;
        }
        let kept = |rule: &Rule| (rule.history.retention().is_some(), rule.history.is_durable());
        let moved = kept(&home.rule) != kept(&rule);
        home.rule = rule;
        if moved {
            home.order = Order::default();
            home.tail.clear();
            // It was meant for what was kept; of what is under way the log will say what has become of it.
            let queue = std::mem::take(&mut home.appends.queue);
            self.refuse_all(queue, Code::Unavailable);
            while self.homes.get(home_ref).is_some_and(|home| !home.joins.is_empty()) {
                let problem = Problem::new(Code::Unavailable, "the channel's rules have just changed");
                self.join_failed(home_ref, 0, problem);
            }
        }
    }
}
