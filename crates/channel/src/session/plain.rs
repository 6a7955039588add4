//! `/ws`: one JSON object a text frame.

use xpush_core::{Code, Problem};
use xpush_wire::json;

use crate::command::{self, Asked, Call, Command, fields::Fields};
use crate::dialect::Namespace;
use crate::fanout::inbox::Handle;
use crate::shard::Shard;
use crate::transport::stream::Flow;

impl Shard {
    /// One command.
    pub(crate) fn plain_message(&mut self, handle: Handle, text: &str) -> Flow {
        match json::validate(text) {
            Ok(()) => {}
            Err(json::Error::TooDeep(_)) => {
                return self.reject(
                    handle,
                    None,
                    Problem::new(Code::BadJson, "nested deeper than 32 levels"),
                );
            }
            Err(json::Error::Syntax(at) | json::Error::Utf8(at)) => {
                return self.reject(
                    handle,
                    None,
                    Problem::new(Code::BadJson, format!("no JSON at byte {at}")),
                );
            }
        }
        let fields = match Fields::parse(text) {
            Ok(fields) => fields,
            Err(problem) => return self.reject(handle, None, problem),
        };
        let id = match fields.get("id").map(json::unsigned) {
            Some(None) => {
                return self.reject(
                    handle,
                    None,
                    Problem::new(Code::BadField, "id: a whole number below 2^53"),
                );
            }
            id => id.flatten(),
        };
        let name = match fields.text("cmd") {
            Ok(Some(name)) => name,
            _ => return self.reject(handle, id, Problem::new(Code::BadField, "cmd: the command's name")),
        };
        if let Some(flow) = self.plain_connect(handle, &name, id, &fields) {
            return flow;
        }
        let call = Call {
            namespace: Namespace::Native,
            command: Command::parse(Namespace::Native, &name),
            name: &name,
            object: text,
            fields: Ok(fields),
            id,
            attachments: Vec::new(),
        };
        command::run(self, handle, call)
    }

    /// The first command says who it is; if it is another one, the query has said so.
    fn plain_connect(
        &mut self,
        handle: Handle,
        name: &str,
        id: Option<u64>,
        fields: &Fields<'_>,
    ) -> Option<Flow> {
        let session = self.sessions.get(handle)?;
        let asked = Asked { namespace: Namespace::Native, ack: id, command: Command::Connect, question: 0 };
        let connects = name == Command::Connect.as_str();
        if session.native.is_some() || session.waits() {
            return connects.then(|| {
                self.answer_failure(handle, asked, &Code::BadOrder.into());
                Flow::Go
            });
        }
        let mut claims = session.claims();
        if connects && let Err(problem) = claims.read_members(fields.iter()) {
            self.answer_failure(handle, asked, &problem);
            self.close(handle, problem);
            return Some(Flow::Over);
        }
        self.admit(handle, claims, connects.then_some(asked));
        match self.sessions.get(handle) {
            Some(session) if !session.closing => connects.then_some(Flow::Go),
            _ => Some(Flow::Over),
        }
    }

    fn reject(&mut self, handle: Handle, ack: Option<u64>, problem: Problem) -> Flow {
        if !self.may_go_on(handle) {
            return Flow::Over;
        }
        let asked = Asked { namespace: Namespace::Native, ack, command: Command::Unknown, question: 0 };
        self.answer_failure(handle, asked, &problem);
        Flow::Go
    }
}
