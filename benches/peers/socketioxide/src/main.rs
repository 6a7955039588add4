//! socketioxide on axum. Usage: `peer-socketioxide PORT`.

use socketioxide::{
    SocketIo, TransportType,
    extract::{AckSender, Data, SocketRef},
};

#[derive(serde::Deserialize)]
struct Publish {
    room: String,
    data: String,
}

// One thread: the benchmark gives every server one core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let (layer, io) = SocketIo::builder().transports([TransportType::Websocket]).build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on("join", async |socket: SocketRef, Data(room): Data<String>, ack: AckSender| {
            socket.join(room);
            let _ = ack.send(&());
        });
        socket.on("publish", async |io: SocketIo, Data(publish): Data<Publish>, ack: AckSender| {
            let _ = io.to(publish.room).emit("message", &publish.data).await;
            let _ = ack.send(&());
        });
    });
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], port)))?;
    let app = axum::Router::new().layer(layer);
    axum::serve(socket.listen(4096)?, app).await
}
