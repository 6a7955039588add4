// npm socket.io on uWebSockets.js. Usage: node server.js PORT
//
// uWebSockets.js itself is not on npm; the dependency is Truffle's build of version 20.30.0, for Node 16, 18 and 20. Its
// binary is named here, because its main file falls back to plain JavaScript where there is none.
import { createRequire } from "node:module";
import { Server } from "socket.io";

const { platform, arch, versions } = process;
const binary = `uws_${platform}_${arch}_${versions.modules}.node`;
const { App } = createRequire(import.meta.url)(`@trufflesuite/uws-js-unofficial/binaries/${binary}`);
const app = App();
const io = new Server({ transports: ["websocket"], serveClient: false });
io.attachApp(app);

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

app.listen("127.0.0.1", Number(process.argv[2]), (listening) => {
  if (!listening) process.exit(1);
});
