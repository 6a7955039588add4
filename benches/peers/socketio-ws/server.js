// npm socket.io on ws. Usage: node server.js PORT
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });

io.on("connection", (socket) => {
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack();
  });
  socket.on("publish", ({ room, data }, ack) => {
    io.to(room).emit("message", data);
    ack();
  });
});

// As deep as the other servers' queue of new connections, so that a storm is not about SYN retries.
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
