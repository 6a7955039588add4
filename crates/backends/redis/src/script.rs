//! Lua, by its digest: the text travels only where the server does not know it yet.

use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind, ToRedisArgs};
use sha1::{Digest, Sha1};
use xpush_core::ports::PortError;

use crate::connection::Connection;
use crate::failure;

/// A script. All its keys must carry the same hash tag ([`Keys`](crate::Keys)).
#[derive(Debug, Clone)]
pub struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    /// Takes the digest of a script's text.
    pub fn new(text: &'static str) -> Self {
        let digest = Sha1::digest(text.as_bytes());
        Self { text, digest: digest.iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    fn command(&self, verb: &str, script: &str, keys: &[String], arguments: &[impl ToRedisArgs]) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(keys.len()).arg(keys);
        for argument in arguments {
            command.arg(argument);
        }
        command
    }
}

/// The script that these files make, one behind the other; each is named from the folder of whoever asks.
macro_rules! script {
    ($($file:literal),+) => {
        $crate::script::Script::new(concat!($(include_str!($file)),+))
    };
}

pub(crate) use script;

impl Connection {
    /// Runs a script, atomically. Through a Cluster a command may be sent again when a connection broke in the middle, so a script that is run twice must
    /// leave what one run leaves.
    pub async fn invoke<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[impl ToRedisArgs],
    ) -> Result<T, PortError> {
        let known = script.command("EVALSHA", &script.digest, keys, arguments);
        match self.attempt(&known).await {
            Err(Ok(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.query(&script.command("EVAL", script.text, keys, arguments)).await
            }
            Ok(value) => Ok(value),
            Err(Ok(error)) => Err(failure::of(&error)),
            Err(Err(error)) => Err(error),
        }
    }
}
