//! One table of errors: code, number, HTTP status, text and what a client should do. Every transport and `docs/errors.md` come from it.

use std::fmt;

/// What a client should do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same request will fail again.
    No,
    /// The same request may be sent again at once, with the same id.
    Now,
    /// The same request may be sent again with back-off, with the same id.
    Later,
    /// The connection is over; connect again with back-off, then go on.
    Reconnect,
}

impl Retry {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Now => "now",
            Self::Later => "later",
            Self::Reconnect => "reconnect",
        }
    }
}

macro_rules! error_table {
    ($($variant:ident $name:literal $number:literal $status:literal $retry:ident $text:literal)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $text] $variant,)*
        }

        impl Code {
            /// Every code, in the table's order.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The code on the wire, in snake case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// A number below 1,000; a WebSocket closes with 4,000 + it.
            pub const fn number(self) -> u16 {
                match self { $(Code::$variant => $number,)* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }

            /// What to do.
            pub const fn retry(self) -> Retry {
                match self { $(Code::$variant => Retry::$retry,)* }
            }

            /// A sentence for people.
            pub const fn text(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }
        }
    };
}

error_table! {
    // variant           code                  no.  HTTP retry      text
    BadRequest          "bad_request"          100  400  No         "The request is not of the form that the protocol asks for."
    BadPacket           "bad_packet"           101  400  No         "A packet that the protocol does not allow."
    BadJson             "bad_json"             102  400  No         "The data are not JSON, or nested deeper than 32 levels."
    BadField            "bad_field"            103  400  No         "A field is missing, or has a value that it cannot have."
    BadChannel          "bad_channel"          104  400  No         "A channel's name has 1 to 128 bytes, without white space, control characters or any of * ? [ ] { } \\ \" '."
    BadEvent            "bad_event"            105  400  No         "An event's name has 1 to 64 bytes, without control characters, and is none of the reserved names."
    UnknownCommand      "unknown_command"      106  400  No         "There is no such command."
    UnknownTransport    "unknown_transport"    107  400  No         "There is no such transport."
    UnknownVersion      "unknown_version"      108  400  No         "This version of the protocol is not spoken here."
    UnknownSession      "unknown_session"      109  400  Reconnect  "There is no such session (any more)."
    UnknownNamespace    "unknown_namespace"    110  404  No         "There is no such namespace."
    TooLarge            "too_large"            111  413  No         "The message is larger than the server allows."
    MethodNotAllowed    "method_not_allowed"   113  405  No         "There is nothing here by this method."
    BadContentType      "bad_content_type"     114  415  No         "The body must be JSON, as application/json."
    BadOrder            "bad_order"            112  400  No         "The request does not fit the state of the session."
    Unauthenticated     "unauthenticated"      120  401  No         "This app asks for a token, and none that it knows was given."
    Forbidden           "forbidden"            121  403  No         "This is not allowed here."
    OriginRefused       "origin_refused"       122  403  No         "Pages of this origin may not connect."
    UnknownApp          "unknown_app"          123  404  No         "There is no such app."
    NoHistory           "no_history"           124  400  No         "This channel keeps no history."
    NoPresence          "no_presence"          125  400  No         "This channel keeps no presence."
    TokenExpired        "token_expired"        126  401  No         "The token has expired; connect again with a new one."
    Revoked             "revoked"              127  401  No         "This access was revoked; sign in again."
    BadCredentials      "bad_credentials"      128  401  No         "The user or the password is wrong."
    NoSearch            "no_search"            129  400  No         "This channel is not searched, or this server cannot search."
    HandshakeTimeout    "handshake_timeout"    130  408  Reconnect  "The connection did not say in time who it is."
    HeartbeatTimeout    "heartbeat_timeout"    131  408  Reconnect  "The client did not answer the heartbeat in time."
    SlowConsumer        "slow_consumer"        132  408  Reconnect  "The client did not read what was sent to it in time."
    RateLimited         "rate_limited"         133  429  Later      "Too many requests in too short a time."
    TooManyConnections  "too_many_connections" 134  429  Later      "Too many connections from this address, or in all."
    TooManyChannels     "too_many_channels"    135  400  No         "This connection may not follow more channels."
    Cancelled           "cancelled"            136  409  No         "A later request of the same connection has overtaken this one."
    UnknownMessage      "unknown_message"      137  404  No         "There is no such message here (any more)."
    NotFound            "not_found"            138  404  No         "There is nothing here by this name."
    Conflict            "conflict"             139  409  No         "It exists already, or somebody else has changed it first."
    Draining            "draining"             140  503  Reconnect  "The server is about to stop; connect again."
    Unavailable         "unavailable"          141  503  Later      "The server cannot do this at the moment."
    Overloaded          "overloaded"           142  503  Later      "The server has more to do than it can."
    OutcomeUnknown      "outcome_unknown"      143  503  Now        "Whether this took effect is not known; the same id makes it safe to send it again."
    Full                "full"                 144  507  Later      "The server has no room left to store this."
    NoFiles             "no_files"             145  400  No         "Files are not taken here."
    BadFileType         "bad_file_type"        146  415  No         "Files of this type are not taken here."
    BadImage            "bad_image"            147  422  No         "The image is damaged, or has more pixels than the server looks at."
    BadRange            "bad_range"            148  416  No         "The file has no bytes in this range."
    Internal            "internal"             150  500  Later      "The server made a mistake."
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as a client sees it: a code, and which part of the request was wrong where that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The code.
    pub code: Code,
    /// More than the code's text says: a field's name, a limit's value. Never a secret, nor another's data.
    pub detail: Option<Box<str>>,
}

impl Problem {
    /// A code with a detail.
    pub fn new(code: Code, detail: impl Into<Box<str>>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.code.text())
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self { code, detail: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message())
    }
}

impl std::error::Error for Problem {}

/// `docs/errors.md`.
pub fn errors_page() -> String {
    let mut page = String::from(
        "# Errors\n\nMade from the table in `crates/core/src/error.rs`; a test compares them.\n\n\
         | code | number | HTTP | retry | meaning |\n|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        page.push_str(&format!(
            "| `{}` | {} | {} | {} | {} |\n",
            code,
            code.number(),
            code.status(),
            code.retry().as_str(),
            code.text()
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_and_names_are_unique_and_fit_a_close_code() {
        let numbers: HashSet<_> = Code::ALL.iter().map(|code| code.number()).collect();
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!((numbers.len(), names.len()), (Code::ALL.len(), Code::ALL.len()));
        assert!(numbers.iter().all(|number| *number < 1_000));
    }

    #[test]
    fn the_docs_page_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == errors_page(), "docs/errors.md differs; it should be:\n{}", errors_page());
    }
}
