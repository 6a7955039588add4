//! Listening sockets, and what to do when there can be none.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps until they are accepted: a storm of reconnecting clients must not be refused.
const BACKLOG: u32 = 4_096;

/// Listens; the error says what to do.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    bind(address).map_err(|error| format!("cannot listen on {address}: {}", advice(address, &error)))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Without it a restart would have to wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn advice(address: SocketAddr, error: &io::Error) -> String {
    let elsewhere = |port| SocketAddr::new(address.ip(), port);
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program (perhaps another xpush) listens there. Stop it, or take another port: xpush --listen {}",
            elsewhere(address.port().checked_add(1).unwrap_or(8_000))
        ),
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need a privilege. Take a higher one (xpush --listen {}), or grant it: setcap cap_net_bind_service=+ep xpush",
            elsewhere(8_000)
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; 0.0.0.0 or [::] stands for all that it has".to_owned()
        }
        _ => error.to_string(),
    }
}
