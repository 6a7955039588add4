//! Engine.IO and Socket.IO packets of a session, in the order in which they came.

use bytes::Bytes;
use xpush_core::{Code, Problem};
use xpush_wire::engine::{self, Kind, Packet, Version};
use xpush_wire::{json, socket};

use super::recovery::Claim;
use super::{Assembly, Session};
use crate::command::{self, fields::Fields};
use crate::dialect::{self, Namespace};
use crate::fanout::inbox::Handle;
use crate::shard::Shard;
use crate::transport::stream::Flow;

impl Shard {
    /// A WebSocket text message.
    pub(crate) fn engine_text(&mut self, handle: Handle, text: &str) -> Flow {
        let version = self.sessions.get(handle).and_then(|session| session.wire.engine());
        if let Some(version) = version.filter(|_| text.starts_with('b')) {
            // A client that was told to force base64 sends bytes as text.
            return match engine::read_base64(version, text) {
                Ok(data) => self.engine_packet(handle, Packet::Binary(&data)),
                Err(_) => self.break_off(handle, Code::BadPacket),
            };
        }
        match engine::read_text(text) {
            Ok(packet) => self.engine_packet(handle, packet),
            Err(_) => self.break_off(handle, Code::BadPacket),
        }
    }

    /// A WebSocket binary message.
    pub(crate) fn engine_binary(&mut self, handle: Handle, data: &[u8]) -> Flow {
        let version = self.sessions.get(handle).and_then(|session| session.wire.engine());
        match version.map(|version| engine::read_binary(version, data)) {
            Some(Ok(packet)) => self.engine_packet(handle, packet),
            _ => self.break_off(handle, Code::BadPacket),
        }
    }

    /// One Engine.IO packet, by whatever transport.
    pub(crate) fn engine_packet(&mut self, handle: Handle, packet: Packet<'_>) -> Flow {
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        if session.closing {
            return Flow::Over;
        }
        session.awaits_pong = false;
        let version = session.wire.engine();
        match packet {
            Packet::Text(Kind::Message, text) => self.socket_text(handle, text),
            Packet::Binary(data) => self.socket_binary(handle, data),
            Packet::Text(Kind::Ping, data) if version == Some(Version::V3) => {
                if !self.may_go_on(handle) {
                    return Flow::Over;
                }
                let mut frame = Vec::new();
                dialect::engine_packet(Kind::Pong, data, &mut frame);
                self.sessions.send(handle.slot, frame.into());
                Flow::Go
            }
            Packet::Text(Kind::Pong, _) if version == Some(Version::V4) => Flow::Go,
            Packet::Text(Kind::Noop | Kind::Upgrade, _) => Flow::Go,
            Packet::Text(Kind::Close, _) => {
                self.gone(handle);
                Flow::Over
            }
            Packet::Text(..) => self.break_off(handle, Code::BadPacket),
        }
    }

    fn socket_text(&mut self, handle: Handle, text: &str) -> Flow {
        let limits = self.node.config.limits.attachments;
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        let Some(version) = session.wire.engine() else { return Flow::Over };
        if session.assembly.is_some() {
            return self.break_off(handle, Code::BadPacket);
        }
        let packet = match socket::read(version, text, limits) {
            Ok(packet) => packet,
            Err(error) => return self.break_off(handle, code_of(error)),
        };
        if packet.attachments > 0 {
            session.assembly = Some(Box::new(Assembly {
                text: text.into(),
                missing: packet.attachments,
                attachments: Vec::new(),
                bytes: text.len(),
            }));
            return Flow::Go;
        }
        self.socket_packet(handle, packet, Vec::new())
    }

    fn socket_binary(&mut self, handle: Handle, data: &[u8]) -> Flow {
        let limits = &self.node.config.limits;
        let (payload, most) = (limits.payload, limits.attachments);
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        let Some(assembly) = &mut session.assembly else {
            return self.socket_msgpack(handle, data, most);
        };
        assembly.bytes += data.len();
        if assembly.bytes > payload {
            return self.break_off(handle, Code::TooLarge);
        }
        assembly.attachments.push(Bytes::copy_from_slice(data));
        assembly.missing -= 1;
        if assembly.missing > 0 {
            return Flow::Go;
        }
        let Some(assembly) = session.assembly.take() else { return Flow::Go };
        let Some(version) = session.wire.engine() else { return Flow::Over };
        match socket::read(version, &assembly.text, most) {
            Ok(packet) => self.socket_packet(handle, packet, assembly.attachments),
            Err(error) => self.break_off(handle, code_of(error)),
        }
    }

    /// A binary message that is no attachment: the client uses the msgpack parser.
    fn socket_msgpack(&mut self, handle: Handle, data: &[u8], most: usize) -> Flow {
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        let undecided = !session.has_entered(Namespace::Native) && !session.has_entered(Namespace::Legacy);
        if !session.wire.msgpack() {
            if !undecided {
                return self.break_off(handle, Code::BadPacket);
            }
            session.wire = session.wire.with_msgpack();
        }
        match socket::read_msgpack(data, most) {
            Ok(unpacked) => {
                let (namespace, query) =
                    unpacked.namespace.split_once('?').unwrap_or((&unpacked.namespace, ""));
                let packet = socket::Packet {
                    kind: unpacked.kind,
                    attachments: unpacked.attachments.len(),
                    namespace,
                    query,
                    id: unpacked.id,
                    data: &unpacked.data,
                };
                self.socket_packet(handle, packet, unpacked.attachments.clone())
            }
            Err(error) => self.break_off(handle, code_of(error)),
        }
    }

    /// One whole Socket.IO packet.
    fn socket_packet(&mut self, handle: Handle, packet: socket::Packet<'_>, attachments: Vec<Bytes>) -> Flow {
        use socket::Kind;
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        if packet.kind == Kind::Connect {
            return self.socket_connect(handle, packet);
        }
        let Some(namespace) = Namespace::parse(packet.namespace).filter(|name| session.has_entered(*name))
        else {
            return self.break_off(handle, Code::BadOrder);
        };
        match packet.kind {
            Kind::Event | Kind::BinaryEvent => self.socket_event(handle, namespace, packet, attachments),
            // The server asks for no acknowledgements.
            Kind::Ack | Kind::BinaryAck => Flow::Go,
            Kind::Disconnect => {
                self.leave_namespace(handle, namespace);
                Flow::Go
            }
            Kind::Connect | Kind::ConnectError => self.break_off(handle, Code::BadPacket),
        }
    }

    fn socket_connect(&mut self, handle: Handle, packet: socket::Packet<'_>) -> Flow {
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        let Some(namespace) = Namespace::parse(packet.namespace) else {
            let problem = Problem::new(Code::UnknownNamespace, "Invalid namespace");
            let name = packet.namespace.to_owned();
            self.refuse_connect(handle, &name, &problem);
            return Flow::Go;
        };
        if session.has_entered(namespace) {
            // Protocol 4 clients are connected to `/` already, and some say it again.
            return if session.wire.engine() == Some(Version::V3) {
                Flow::Go
            } else {
                self.break_off(handle, Code::BadOrder)
            };
        }
        match namespace {
            Namespace::Native | Namespace::Plain => {
                let mut claims = session.claims();
                claims.read_query(packet.query);
                claims.claim = Claim::read(json::members(packet.data).into_iter().flatten());
                match claims.read_members(json::members(packet.data).into_iter().flatten()) {
                    Ok(()) => self.admit(handle, claims, None),
                    Err(problem) => self.refuse_connect(handle, "/", &problem),
                }
            }
            Namespace::Legacy => command::legacy::connect(self, handle, packet.query, packet.data),
        }
        Flow::Go
    }

    fn socket_event(
        &mut self,
        handle: Handle,
        namespace: Namespace,
        packet: socket::Packet<'_>,
        attachments: Vec<Bytes>,
    ) -> Flow {
        let mut arguments = json::elements(packet.data).into_iter().flatten();
        let name = arguments.next().and_then(json::string).unwrap_or_default();
        let command = command::Command::parse(namespace, &name);
        let object = match command {
            command::Command::Unknown => command::call::data(arguments),
            _ => arguments.next().unwrap_or("{}").into(),
        };
        let object = &*object;
        let fields = Fields::parse(object);
        let call =
            command::Call { namespace, command, name: &name, object, fields, id: packet.id, attachments };
        command::run(self, handle, call)
    }

    /// Closes a connection that broke the protocol.
    pub(crate) fn break_off(&mut self, handle: Handle, code: Code) -> Flow {
        self.close(handle, code.into());
        Flow::Over
    }

    /// Whether a ping, which costs an answer, is within the rate.
    pub(crate) fn may_go_on(&mut self, handle: Handle) -> bool {
        let (now, limits) = (self.now, &self.node.config.limits);
        let verdict = self.sessions.get(handle).map(|session: &mut Session| {
            let rate = session.commands_per_second(limits);
            session.rate.take(now, rate)
        });
        if verdict == Some(super::rate::Verdict::Close) {
            self.close(handle, Code::RateLimited.into());
            return false;
        }
        verdict.is_some()
    }
}

fn code_of(error: socket::Error) -> Code {
    match error {
        socket::Error::Data | socket::Error::TooDeep => Code::BadJson,
        socket::Error::TooManyAttachments => Code::TooLarge,
        socket::Error::UnknownType | socket::Error::Malformed | socket::Error::Placeholders => {
            Code::BadPacket
        }
    }
}
