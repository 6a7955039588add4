//! What an app's own back end has a user's connections follow: each as if it had asked for it, with no more than the user may.

use xpush_core::ports::bus::Enlisting;
use xpush_core::{Code, Problem};

use super::fields::Fields;
use super::{Call, Command, execute};
use crate::dialect::{Namespace, Wire, object};
use crate::fanout::inbox::Handle;
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, enlisting: &Enlisting) {
    let Enlisting { channel, user, follows } = enlisting;
    for handle in shard.sessions_of(&channel.app, user) {
        let topic = shard.topics.find(channel);
        let Some(session) = shard.sessions.get(handle) else { continue };
        // An event stream names its channels when it begins: by them it is resumed.
        if session.closing || session.wire == Wire::Sse {
            continue;
        }
        let mut own = session.subscriptions.iter().filter(|one| one.namespace == Namespace::Native);
        let followed = own.find(|one| Some(one.topic) == topic).map(|one| one.ticket);
        match (follows, followed) {
            (true, None) => subscribe(shard, handle, enlisting),
            (false, Some(ticket)) => {
                let problem = Problem::new(Code::Forbidden, "the app's own server has ended this");
                shard.end_with(handle, ticket, &problem);
            }
            _ => {}
        }
    }
}

fn subscribe(shard: &mut Shard, handle: Handle, enlisting: &Enlisting) {
    let mut object = object::of_channel(&enlisting.channel.name);
    object.push(b'}');
    let object = object::text(object);
    let fields = Fields::parse(&object);
    let (namespace, command) = (Namespace::Native, Command::Enlist);
    let name = command.as_str();
    let call = Call { namespace, command, name, object: &object, fields, id: None, attachments: Vec::new() };
    // What the client sends is read on whatever comes of this: it waits for no answer.
    shard.command_begins(handle);
    if shard.sessions.get(handle).is_some_and(|session| session.waits()) {
        shard.hold(handle, call);
    } else {
        execute(shard, handle, call, None);
    }
}
