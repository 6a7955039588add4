import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { XpushError, type Client, type Shown } from "../src/index.ts";
import { collect, FakeServer } from "./fake.ts";

let server: FakeServer;
let client: Client;
let shown: Shown[];

beforeEach((context) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 5_000 });
  if ("after" in context) context.after(() => mock.timers.reset());
  mock.method(Math, "random", () => 1);
  server = new FakeServer();
  client = server.client({ backoff: { min: 1_000, max: 8_000 } });
  shown = collect(client, "connection");
});

const statuses = () => shown.map(({ status }) => status);

function refuse(retry: "no" | "later" = "later"): void {
  server.link.events.down(new XpushError("unreachable", "unreachable", retry));
}

test("a first connection is connecting, then connected; an upgrade is no news", () => {
  assert.deepEqual(client.connection, { status: "connecting" });
  server.link.events.up("polling");
  server.link.events.upgraded("websocket");
  assert.deepEqual(shown, [{ status: "connected" }]);
});

test("a connection that is back in a moment was never away", () => {
  server.accept().cut();
  client.retryNow();
  mock.timers.tick(399);
  server.accept();
  mock.timers.tick(60_000);
  assert.deepEqual(statuses(), ["connected"]);
});

test("one that is away longer is reconnecting, with the delay, through all attempts", () => {
  server.accept().cut();
  mock.timers.tick(400);
  assert.deepEqual(shown.at(-1), {
    status: "reconnecting",
    since: 5_000,
    attempt: 1,
    retryAt: 6_000,
    delay: 1_000,
    error: new XpushError("disconnected", "transport close", "reconnect"),
  });
  // An attempt that is refused at once is not shown as one.
  mock.timers.tick(600);
  refuse();
  const next = shown.at(-1);
  assert.ok(next?.status === "reconnecting" && next.delay === 2_000 && next.attempt === 2 && next.since === 5_000);
  assert.equal(shown.length, 3);
  // One that takes a while is.
  mock.timers.tick(2_000);
  mock.timers.tick(400);
  const trying = shown.at(-1);
  assert.ok(trying?.status === "reconnecting" && trying.retryAt === undefined && trying.delay === undefined);
  server.accept();
  assert.deepEqual(statuses(), ["connected", "reconnecting", "reconnecting", "reconnecting", "connected"]);
});

test("a server that was never reached is reconnecting, too", () => {
  refuse();
  assert.deepEqual(statuses(), ["reconnecting"]);
});

test("a move is shown as such, never as a loss", () => {
  const link = server.accept();
  link.events.push("moved", { within_ms: 2_000, url: "http://other" });
  mock.timers.tick(1_000);
  assert.deepEqual(client.connection, { status: "moving" });
  assert.equal(client.state.status, "online");
  server.accept();
  mock.timers.tick(60_000);
  assert.deepEqual(statuses(), ["connected", "moving", "connected"]);
});

test("a move that comes to nothing leaves us connected", () => {
  const link = server.accept();
  link.events.push("moved", { within_ms: 2_000, url: "http://other" });
  mock.timers.tick(1_000);
  refuse();
  assert.deepEqual(statuses(), ["connected", "moving", "connected"]);
});

test("a pause and the end are shown at once, and going on when it takes a while", () => {
  server.accept();
  client.pause();
  client.resume();
  server.accept();
  client.close();
  mock.timers.tick(60_000);
  assert.deepEqual(statuses(), ["connected", "paused", "connected", "closed"]);
});
