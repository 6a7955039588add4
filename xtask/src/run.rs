//! Runs other programs: their output is shown as it comes, and read on the way.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::repo::Repo;

/// A command in the checkout that cannot ask questions, and that finds our own Python environment first.
pub(crate) fn command(repo: &Repo, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(&repo.root).stdin(Stdio::null());
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(repo.venv().join("bin")).chain(std::env::split_paths(&inherited));
    if let Ok(path) = std::env::join_paths(path) {
        command.env("PATH", path);
    }
    command
}

/// npm in a folder of the checkout.
pub(crate) fn npm(repo: &Repo, folder: &str, words: &[&str]) -> Command {
    let mut npm = command(repo, &["npm"]);
    npm.args(words).current_dir(repo.path(folder));
    npm
}

/// Runs to the end, showing everything; `on_line` sees each line of standard output.
pub(crate) fn stream(
    command: &mut Command,
    deadline: Option<Instant>,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), String> {
    follow(command, deadline, &mut |line| {
        let mut shown = std::io::stdout().lock();
        // A closed pipe at our own output is no reason to stop the tests.
        let _ = shown.write_all(line).and_then(|()| shown.flush());
        on_line(String::from_utf8_lossy(line).trim_end());
    })
}

/// Runs to the end, showing nothing of standard output but what `on_line` does with it.
pub(crate) fn listen(
    command: &mut Command,
    deadline: Option<Instant>,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), String> {
    follow(command, deadline, &mut |line| on_line(String::from_utf8_lossy(line).trim_end()))
}

/// `on_line` sees each line of standard output, with its end.
fn follow(
    command: &mut Command,
    deadline: Option<Instant>,
    on_line: &mut dyn FnMut(&[u8]),
) -> Result<(), String> {
    let name = describe(command);
    if deadline.is_some() {
        // A group of its own, so that the whole tree can be ended. Not without a deadline: Ctrl-C would miss it.
        command.process_group(0);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{name}` cannot be started: {error}"))?;
    let (done, waiting) = channel::<()>();
    let group = child.id();
    let watch = deadline.map(|at| {
        thread::spawn(move || {
            let left = at.saturating_duration_since(Instant::now());
            let late = waiting.recv_timeout(left) == Err(RecvTimeoutError::Timeout);
            if late {
                end_group(group);
            }
            late
        })
    });
    if let Some(output) = child.stdout.take() {
        let (mut output, mut line) = (BufReader::new(output), Vec::new());
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            on_line(&line);
            line.clear();
        }
    }
    let status = child.wait().map_err(|error| format!("`{name}`: {error}"))?;
    drop(done);
    if watch.is_some_and(|watch| watch.join().unwrap_or(false)) {
        return Err(format!("`{name}` was ended: out of time"));
    }
    if status.success() { Ok(()) } else { Err(format!("`{name}` failed ({status})")) }
}

/// Runs to the end, showing everything.
pub(crate) fn show(command: &mut Command) -> Result<(), String> {
    stream(command, None, &mut |_| {})
}

/// What a short command prints, or nothing when it cannot be run or fails.
pub(crate) fn read(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Seconds, as people read them.
pub(crate) fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

/// `std` has no call that signals a group.
fn end_group(leader: u32) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{leader}")]).status();
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[test]
    fn every_line_is_seen_and_the_status_is_told() {
        let mut lines = Vec::new();
        let mut collect = |line: &str| lines.push(line.to_owned());
        let outcome = stream(&mut shell("echo one; echo two; exit 3"), None, &mut collect);
        assert_eq!(lines, ["one", "two"]);
        assert!(outcome.is_err_and(|message| message.contains("exit status: 3")));
    }

    #[test]
    fn what_never_ends_is_ended_with_its_children() {
        let deadline = Instant::now() + Duration::from_millis(50);
        let outcome = stream(&mut shell("sleep 600 & sleep 600"), Some(deadline), &mut |_| {});
        assert!(outcome.is_err_and(|message| message.contains("out of time")));
    }

    #[test]
    fn a_missing_program_is_named() {
        let outcome = stream(&mut Command::new("no-such-program"), None, &mut |_| {});
        assert!(outcome.is_err_and(|message| message.contains("no-such-program")));
    }
}
