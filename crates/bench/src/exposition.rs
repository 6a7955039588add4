//! What the server says of itself: its `/metrics`.

use crate::{Target, caller::connect};
use std::io::{self, Read, Write};

/// Commits of messages since the server's start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Commits {
    pub(crate) count: f64,
    pub(crate) messages: f64,
}

/// `None` when the server does not say.
pub(crate) fn commits(target: &Target) -> io::Result<Option<Commits>> {
    let mut stream = connect(target)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.host()?)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(read(&answer))
}

fn read(answer: &str) -> Option<Commits> {
    let number = |name: &str| {
        let mut words = answer.lines().filter_map(|line| line.split_once(' '));
        words.find_map(|(key, value)| (key == name).then(|| value.parse().ok())?)
    };
    let of = |part: &str| number(&format!("xpush_store_commit_messages_{part}"));
    Some(Commits { count: of("count")?, messages: of("sum")? })
}

impl Commits {
    /// Messages of a commit, on average.
    pub(crate) fn messages_each_since(self, before: Self) -> f64 {
        (self.messages - before.messages) / (self.count - before.count).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_where_they_are_told() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n# TYPE xpush_store_commit_messages histogram\n\
            xpush_store_commit_messages_sum 900.0\nxpush_store_commit_messages_count 3\n\
            xpush_store_commit_messages_bucket{le=\"1.0\"} 0\n# EOF\n";
        let commits = read(answer).expect("they are there");
        assert_eq!(commits, Commits { count: 3.0, messages: 900.0 });
        assert_eq!(commits.messages_each_since(Commits { count: 1.0, messages: 100.0 }), 400.0);
        assert_eq!(read("HTTP/1.1 404 Not Found\r\n\r\n"), None);
    }
}
