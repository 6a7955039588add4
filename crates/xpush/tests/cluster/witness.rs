//! A client that writes down what it is told, and answers heartbeats.

use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::{Value, json};
use xpush_testkit::fleet::Said;
use xpush_testkit::service::PATIENCE;

use crate::world::Server;

/// Follows channels until it is dropped.
pub(crate) struct Witness {
    heard: Arc<(Mutex<Vec<Value>>, Condvar)>,
    stream: TcpStream,
}

impl Witness {
    /// A guest of its own at `server`, who follows `channels` and wants to know who is there.
    pub(crate) fn at(server: &Server, secret: &str, channels: &[&str]) -> Self {
        let mut connection = server.connect(secret);
        for channel in channels {
            let presence = channel.starts_with("seen:");
            connection.ask("subscribe", json!({"channel": channel, "presence": presence})).unwrap();
        }
        let stream = connection.stream().unwrap();
        let heard = Arc::<(Mutex<Vec<Value>>, Condvar)>::default();
        let written = Arc::clone(&heard);
        thread::spawn(move || {
            while let Ok(said) = connection.hear() {
                if let Said::Push(push) = said {
                    written.0.lock().unwrap().push(push);
                    written.1.notify_all();
                }
            }
        });
        Self { heard, stream }
    }

    /// Everything so far.
    pub(crate) fn heard(&self) -> Vec<Value> {
        self.heard.0.lock().unwrap().clone()
    }

    /// Waits until the last that it was told of who is there is so: everybody by name, or that nobody can tell.
    pub(crate) fn told(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let told = |push: &&Value| push["unknown"] == true || push["users"].is_array();
        let pushes = self.heard.0.lock().unwrap();
        let (pushes, waited) = self
            .heard
            .1
            .wait_timeout_while(pushes, PATIENCE, |pushes| {
                !pushes.iter().rev().find(told).is_some_and(&wanted)
            })
            .unwrap();
        assert!(!waited.timed_out(), "expected was {what}, and heard {pushes:?}");
    }

    /// Waits until what was heard after the first `since` is as wanted.
    pub(crate) fn until(&self, what: &str, since: usize, wanted: impl Fn(&Value) -> bool) {
        let pushes = self.heard.0.lock().unwrap();
        let (pushes, waited) = self
            .heard
            .1
            .wait_timeout_while(pushes, PATIENCE, |pushes| !pushes[since..].iter().any(&wanted))
            .unwrap();
        assert!(!waited.timed_out(), "expected was {what}, and heard {:?}", &pushes[since..]);
    }

    /// Waits until all that was heard is as wanted.
    pub(crate) fn until_all(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) {
        let pushes = self.heard.0.lock().unwrap();
        let (_pushes, waited) =
            self.heard.1.wait_timeout_while(pushes, PATIENCE, |pushes| !wanted(pushes)).unwrap();
        assert!(!waited.timed_out(), "expected was {what}");
    }

    /// Waits for data in a channel.
    pub(crate) fn hears(&self, channel: &str, data: &str) {
        self.until(data, 0, |push| push["channel"] == channel && push["data"] == data);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
