//! `delete`: a message is withdrawn.

use bytes::Bytes;
use xpush_core::{Kind, Payload, Problem};

use super::{Outcome, Request, edit};
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, request: Request<'_>) -> Result<Outcome, Problem> {
    let target = edit::target(&request)?;
    let payload = Payload { json: Bytes::from_static(b"null"), attachments: Vec::new() };
    edit::change(shard, &request, Kind::Delete { target }, "delete", payload)
}
