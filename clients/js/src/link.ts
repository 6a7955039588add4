import { io, type Socket } from "socket.io-client";
import { PUSHES, XpushError, type Answer, type Credentials, type ErrorBody } from "./protocol.ts";

/** One connection, from its opening to its end; a reconnect is another link. */
export interface Link {
  /**
   * Sends a command; `done` is called exactly once, with the server's answer or with the client's own error `timeout` or
   * `disconnected`. It is called before any push that the server sent after the answer.
   */
  request(command: string, fields: object, timeoutMs: number, done: (answer: Answer) => void): void;
  /** Ends the connection without a word, as a lost network does. Nothing is reported to {@link LinkEvents} any more. */
  drop(): void;
}

/**
 * What a link reports. The push `welcome` comes behind `up`: what is published waits for it. `down` comes once, as the last, whether
 * the link was ever up or not.
 */
export interface LinkEvents {
  up(transport: string): void;
  upgraded(transport: string): void;
  push(name: string, body: unknown): void;
  down(error: XpushError): void;
}

/** Opens a link; never throws, never reports before it has returned. */
export type OpenLink = (url: string, credentials: Credentials, events: LinkEvents) => Link;

/** Links over Socket.IO: a WebSocket first, long polling where that is not let through. */
export const openSocketIo: OpenLink = (url, credentials, events) => {
  const socket = io(url, {
    // `moves`: this client follows the push `moved`.
    auth: { ...credentials, moves: "1" },
    forceNew: true,
    // The client reconnects, not the socket: it knows `moved`, `closing` and the errors' `retry`.
    reconnection: false,
    transports: ["websocket", "polling"],
    tryAllTransports: true,
  });

  function drop(): void {
    socket.off();
    socket.io.engine?.close();
    socket.disconnect();
  }

  function down(error: XpushError): void {
    drop();
    events.down(error);
  }

  socket.on("connect", () => {
    const { engine } = socket.io;
    engine.on("upgrade", (transport) => events.upgraded(transport.name));
    events.up(engine.transport.name);
  });
  socket.on("connect_error", (error) => down(connectError(error)));
  socket.on("disconnect", (reason) => down(new XpushError("disconnected", reason, "reconnect")));
  for (const name of PUSHES) socket.on(name, (body: unknown) => events.push(name, body));

  return { drop, request: (...args) => request(socket, ...args) };
};

function request(
  socket: Socket,
  command: string,
  fields: object,
  timeoutMs: number,
  done: (answer: Answer) => void,
): void {
  // A disconnected socket would keep the command and send it on a later connection, behind the client's back.
  if (!socket.connected) {
    queueMicrotask(() => done({ error: disconnected() }));
    return;
  }
  socket.timeout(timeoutMs).emit(command, fields, (failure: Error | null, answer: Answer) => {
    if (!failure) return done(answer);
    done({ error: socket.connected ? new XpushError("timeout", `no answer to ${command}`, "now") : disconnected() });
  });
}

function disconnected(): XpushError {
  return new XpushError("disconnected", "the connection was lost before the answer came", "reconnect");
}

/** A refused CONNECT carries the error object in `data`; a transport error does not, and may pass. */
function connectError(error: Error & { data?: Partial<ErrorBody> }): XpushError {
  const { code, retry } = error.data ?? {};
  return code && retry
    ? new XpushError(code, error.message, retry)
    : new XpushError("unreachable", error.message, "later");
}
