import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { XpushError, type Client, type State } from "../src/index.ts";
import { collect, FakeServer, settle, type FakeLink } from "./fake.ts";

const BODY = { channel: "room", history: true, epoch: "e1" };

let server: FakeServer;
let client: Client;
let states: State[];

beforeEach((context) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  if ("after" in context) context.after(() => mock.timers.reset());
  server = new FakeServer();
  client = server.client({ backoff: { min: 1_000, max: 8_000 } });
  states = collect(client, "state");
});

/** A connection whose client follows `room` from 4 on. */
function subscribed(): FakeLink {
  void client.channel("room").subscribe();
  const link = server.accept();
  link.take("subscribe").ok({ ...BODY, seq: 4 });
  return link;
}

/** Tells the client to go, and lets its time come. */
function moved(link: FakeLink, url?: string): FakeLink {
  link.events.push("moved", { within_ms: 2_000, ...(url && { url }) });
  mock.timers.tick(1_000);
  return server.link;
}

test("moved connects elsewhere at a random moment of the first half", (context) => {
  context.mock.method(Math, "random", () => 0.5);
  const link = server.accept();
  link.events.push("moved", { within_ms: 4_000, url: "http://other" });
  mock.timers.tick(999);
  assert.equal(server.links.length, 1);
  mock.timers.tick(1);
  assert.deepEqual(server.links.map(({ url }) => url), ["http://home", "http://other"]);
  assert.equal(link.dropped, false, "the new connection comes first");
});

test("a move has no gap and no double, and nobody notices", () => {
  const old = subscribed();
  const messages = collect(client.channel("room"), "message");
  const recovered = collect(client.channel("room"), "recovered");
  const before = states.length;
  const next = moved(old, "http://other");
  old.message("room", 5);
  next.events.up("websocket");
  const subscribe = next.take("subscribe");
  assert.deepEqual(subscribe.fields["since"], { epoch: "e1", seq: 5 });
  // Until the new server has answered, the old one is heard.
  old.message("room", 6);
  subscribe.ok({ ...BODY, seq: 7, recovered: true, missed: 2 });
  assert.equal(old.dropped, true);
  old.message("room", 7);
  for (const seq of [6, 7, 8]) next.message("room", seq);
  assert.deepEqual(messages.map(({ seq }) => seq), [5, 6, 7, 8]);
  assert.deepEqual(recovered, [{ channel: "room", missed: 1, recovered: 1 }]);
  assert.deepEqual(client.stats, { missed: 1, recovered: 1 });
  assert.equal(states.length, before, "it was online all the time");
});

test("a channel without history is heard by one connection at a time", () => {
  void client.channel("ticks").subscribe();
  const old = server.accept();
  old.take("subscribe").ok({ channel: "ticks", history: false });
  const messages = collect(client.channel("ticks"), "message");
  const tick = (link: FakeLink, id: string) =>
    link.events.push("message", { channel: "ticks", id, event: "message", data: id, from: { user: "a" }, at: 1 });
  const next = moved(old);
  next.events.up("websocket");
  tick(next, "too early");
  tick(old, "1");
  next.take("subscribe").ok({ channel: "ticks", history: false });
  tick(old, "too late");
  tick(next, "2");
  assert.deepEqual(messages.map(({ id }) => id), ["1", "2"]);
});

test("what was asked of the old server is answered there; what comes behind it stays behind it", async () => {
  const old = subscribed();
  const first = client.channel("room").publish("a", { id: "1" });
  const publish = old.take("publish");
  const next = moved(old);
  next.events.up("websocket");
  next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
  const second = client.channel("room").publish("b", { id: "2" });
  assert.deepEqual([old.commands(), next.commands(), old.dropped], [[], [], false]);
  publish.ok({ ...BODY, id: "1", seq: 5, at: 1 });
  assert.equal((await first).seq, 5);
  assert.equal(old.dropped, true);
  next.take("publish").ok({ ...BODY, id: "2", seq: 6, at: 1 });
  assert.equal((await second).seq, 6);
});

test("an answer that does not come in time is asked for again, by the same id, on the new server", async () => {
  const old = subscribed();
  const published = client.channel("room").publish("a", { id: "1" });
  const next = moved(old);
  next.events.up("websocket");
  next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
  mock.timers.tick(1_000);
  assert.equal(old.dropped, true);
  mock.timers.tick(1_000);
  const again = next.take("publish");
  assert.equal(again.fields["id"], "1");
  again.ok({ ...BODY, id: "1", seq: 5, at: 1 });
  assert.equal((await published).seq, 5);
  assert.equal(server.links.length, 2, "no connection more than needed");
});

test("an old server that closes too early only makes the move sooner", () => {
  const old = subscribed();
  const next = moved(old);
  old.events.push("closing", { error: { code: "draining", message: "draining", retry: "reconnect" } });
  next.events.up("websocket");
  old.cut();
  assert.equal(client.state.status, "online");
  next.take("subscribe").ok({ ...BODY, seq: 5, recovered: true, missed: 1 });
  const messages = collect(client.channel("room"), "message");
  next.message("room", 5);
  assert.deepEqual(messages.map(({ seq }) => seq), [5]);
});

test("an old server that closes before the new one answers is a lost connection", () => {
  const old = subscribed();
  const next = moved(old, "http://other");
  old.cut();
  assert.equal(client.state.status, "waiting");
  assert.equal(next.dropped, true);
  client.retryNow();
  assert.equal(server.link.url, "http://other");
  assert.deepEqual(server.accept().take("subscribe").fields["since"], { epoch: "e1", seq: 4 });
});

test("an address that does not answer is left for home, while the old server still serves", () => {
  const old = subscribed();
  const next = moved(old, "http://other");
  next.events.down(new XpushError("unreachable", "unreachable", "later"));
  assert.equal(client.state.status, "online");
  mock.timers.tick(1_000);
  assert.equal(server.link.url, "http://home");
  const messages = collect(client.channel("room"), "message");
  old.message("room", 5);
  assert.equal(messages.length, 1);
});

test("a new server that goes in the middle gives its channels back", () => {
  const old = subscribed();
  void client.channel("other").subscribe();
  old.take("subscribe").ok({ channel: "other", history: true, epoch: "e2", seq: 1 });
  const next = moved(old);
  next.events.up("websocket");
  next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
  next.cut();
  next.events.down(new XpushError("disconnected", "transport close", "reconnect"));
  assert.deepEqual(old.take("subscribe").fields["since"], { epoch: "e1", seq: 4 });
  assert.equal(client.state.status, "online");
});

test("moved twice is one move, to the last address; on its way the client hears no other", () => {
  const link = server.accept();
  link.events.push("moved", { within_ms: 1_000, url: "http://first" });
  link.events.push("moved", { within_ms: 1_000, url: "http://second" });
  mock.timers.tick(500);
  link.events.push("moved", { within_ms: 1_000, url: "http://third" });
  mock.timers.tick(5_000);
  assert.deepEqual(server.links.map(({ url }) => url), ["http://home", "http://second"]);
});

test("a connection that is closed before the move goes to the new address too", () => {
  const link = server.accept();
  link.events.push("moved", { within_ms: 60_000, url: "http://other" });
  link.cut();
  client.retryNow();
  assert.deepEqual(server.links.map(({ url }) => url), ["http://home", "http://other"]);
});

test("pausing in the middle ends both", () => {
  const old = subscribed();
  const next = moved(old);
  client.pause();
  assert.deepEqual([old.dropped, next.dropped], [true, true]);
  mock.timers.tick(60_000);
  assert.equal(server.links.length, 2);
});

// === the session server ===

test("the session server is asked for each connection, by the channels that there are", async () => {
  const asked: unknown[] = [];
  const assign = (home: string, app: string | undefined, channels: readonly string[]) => {
    asked.push([home, app, [...channels]]);
    return Promise.resolve(`http://node${asked.length}`);
  };
  server = new FakeServer();
  client = server.client({ assign, app: "demo", backoff: { min: 1_000, max: 8_000 } });
  void client.channel("room").subscribe();
  assert.equal(server.links.length, 0);
  await settle();
  assert.equal(server.link.url, "http://node1");
  server.accept().take("subscribe").ok({ ...BODY, seq: 4 });
  // The server dies: another one is assigned, and the stream goes on there.
  server.link.cut();
  client.retryNow();
  await settle();
  assert.equal(server.link.url, "http://node2");
  assert.deepEqual(server.accept().take("subscribe").fields["since"], { epoch: "e1", seq: 4 });
  // It is told to go, and not where to.
  moved(server.link);
  await settle();
  assert.equal(server.link.url, "http://node3");
  assert.deepEqual(asked, Array.from({ length: 3 }, () => ["http://home", "demo", ["room"]]));
});

test("a session server that does not answer is asked again, later and later", async () => {
  let asked = 0;
  const assign = () => {
    asked += 1;
    return Promise.reject(new XpushError("unreachable", "no answer", "later"));
  };
  client = new FakeServer().client({ assign, backoff: { min: 1_000, max: 8_000 } });
  for (const attempt of [1, 2, 3]) {
    await settle();
    assert.equal(client.state.status, "waiting");
    assert.equal(asked, attempt);
    mock.timers.tick(8_000);
  }
});

test("a refusal of the session server is for good", async () => {
  const assign = () => Promise.reject(new XpushError("unknown_app", "no such app", "no"));
  client = new FakeServer().client({ assign });
  await settle();
  assert.equal(client.state.status, "closed");
});
