//! What a person types and sees.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use xpush_session::accounts::password::Password;

/// A terminal that does not show what is typed, until this is dropped.
struct Silent(Termios);

impl Silent {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // It worked a moment ago; there is nothing else to try.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// A new password: asked for twice on a terminal, else the first line of stdin.
pub(super) fn new_password() -> Result<Password, String> {
    let unreadable = |error: io::Error| format!("cannot read a password: {error}");
    let text = if io::stdin().is_terminal() {
        let first = ask("Password: ").map_err(unreadable)?;
        let check = Password::new(&first, "password").map_err(|problem| problem.message().to_owned())?;
        if ask("Again:    ").map_err(unreadable)? != first {
            return Err("these were two different passwords".to_owned());
        }
        return Ok(check);
    } else {
        line().map_err(unreadable)?
    };
    if text.is_empty() {
        return Err("no password: type it on a terminal, or give it on stdin".to_owned());
    }
    Password::new(&text, "password").map_err(|problem| problem.message().to_owned())
}

/// Shows how far something is, on one line of a terminal.
pub(super) fn progress(what: &str, done: u64, total: u64) {
    let mut out = io::stderr();
    if out.is_terminal() {
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        let end = if done >= total { "\n" } else { "" };
        // A terminal that has gone away is no reason to stop.
        let _ = write!(out, "\r{what}: {percent} %{end}").and_then(|()| out.flush());
    }
}

fn ask(what: &str) -> io::Result<String> {
    let mut out = io::stderr();
    out.write_all(what.as_bytes())?;
    out.flush()?;
    let silent = Silent::begin()?;
    let text = line()?;
    drop(silent);
    out.write_all(b"\n")?;
    Ok(text)
}

fn line() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
