//! Listening sockets, and what to do when there can be none.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps until they are accepted: a storm of reconnecting clients must not be refused.
const BACKLOG: u32 = 4_096;

/// An address that is taken, at which nobody is accepted yet: whoever connects is refused, and goes elsewhere.
pub(crate) struct Bound {
    socket: TcpSocket,
    /// With the port that it has got.
    pub(crate) address: SocketAddr,
}

/// Takes an address; the error says what to do.
pub(crate) fn bind(address: SocketAddr) -> Result<Bound, String> {
    bound(address).map_err(|error| cannot(address, &error))
}

impl Bound {
    pub(crate) fn listen(self) -> Result<TcpListener, String> {
        self.socket.listen(BACKLOG).map_err(|error| cannot(self.address, &error))
    }
}

fn bound(address: SocketAddr) -> io::Result<Bound> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Without it a restart would have to wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(Bound { address: socket.local_addr()?, socket })
}

fn cannot(address: SocketAddr, error: &io::Error) -> String {
    format!("cannot listen on {address}: {}", advice(address, error))
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
