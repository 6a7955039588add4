import { io } from "socket.io-client";

const socket = io("{url}", { auth: {auth} });
const channel = "{channel}";

socket.on("message", (m) => console.log(m.from.name ?? m.from.user, m.data));

socket.on("connect", async () => {
  await socket.emitWithAck("subscribe", { channel });
  await socket.emitWithAck("publish", { channel, data: { text: "Hello from my client" } });
});
