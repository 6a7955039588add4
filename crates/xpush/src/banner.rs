//! What a person sees at the start: where to click.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use xpush_core::NodeName;
use xpush_core::ports::directory::Accounts;
use xpush_session::administration::Hidden;

use crate::config::Settings;

/// Printed once, when the server is ready. `setup`: the token of the link that makes the first operator.
pub(crate) fn ready(
    settings: &Settings,
    addresses: &[SocketAddr],
    file: Option<&Path>,
    setup: Option<&str>,
    name: &NodeName,
    hidden: &[Hidden],
) -> String {
    let mut text = format!("XPUSH {} is ready\n\n", env!("CARGO_PKG_VERSION"));
    for address in addresses {
        let note =
            if address.ip().is_unspecified() { "   (and every other address of this machine)" } else { "" };
        let _ = writeln!(text, "  Open        {}/{note}", url(*address, settings.tls.is_some()));
    }
    if let Some(shared) = &settings.shared {
        let servers = shared.zookeeper.servers.join(", ");
        let _ = writeln!(
            text,
            "  Cluster     {name}, by ZooKeeper at {servers} ({}); xpush nodes shows it",
            shared.zookeeper.path
        );
    }
    let data = std::fs::canonicalize(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    let _ = writeln!(text, "  Data        {}", data.display());
    let _ = match file {
        Some(file) => writeln!(text, "  Settings    {}", file.display()),
        None => {
            writeln!(text, "  Settings    the defaults (xpush default-config > xpush.toml, to change them)")
        }
    };
    text += &lines(settings, hidden);
    if let Some((token, address)) = setup.zip(addresses.first()) {
        let url = url(*address, settings.tls.is_some());
        let _ = writeln!(text, "  Set up      {url}/setup#{token}   (once: it makes the first operator)");
    }
    text + "\n"
}

/// One line an app, as the configuration has it.
pub(crate) fn apps(settings: &Settings) -> String {
    lines(settings, &[])
}

/// One line an app; those that are set up live are as the configuration has them no more.
fn lines(settings: &Settings, hidden: &[Hidden]) -> String {
    let mut text = String::new();
    for (place, app) in settings.apps.iter().enumerate() {
        let label = if place == 0 { "Apps" } else { "" };
        if hidden.iter().any(|hidden| hidden.app == app.name) {
            let _ = writeln!(text, "  {label:<12}{0}: as it was set up live (xpush app show {0})", app.name);
            continue;
        }
        let record = &app.record;
        let guests = match record.guests {
            true => "guests are welcome",
            false if app.guests_on_loopback => {
                "no guests, as others can reach this server: --demo lets them in"
            }
            false => "no guests",
        };
        let accounts = match record.accounts {
            Accounts::Off => "",
            Accounts::Invited => "; accounts by `xpush user create`",
            Accounts::Open => "; anybody may register",
        };
        let patterns: Vec<_> = record.rules.iter().map(|rule| &*rule.pattern).collect();
        let _ = writeln!(text, "  {label:<12}{}: {} ({guests}{accounts})", app.name, patterns.join(" "));
    }
    text
}

/// Where a browser on this machine reaches a listener.
fn url(address: SocketAddr, secure: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_that_can_be_clicked() {
        for (listener, clickable) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8000", "http://[::1]:8000"),
            ("192.0.2.1:8000", "http://192.0.2.1:8000"),
        ] {
            assert_eq!(url(listener.parse().unwrap(), false), clickable);
            let secure = clickable.replace("http:", "https:");
            assert_eq!(url(listener.parse().unwrap(), true), secure);
        }
    }
}
