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
  next.accept();
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
  next.accept();
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
  next.accept();
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
  next.accept();
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
  next.accept();
  old.cut();
  assert.equal(client.state.status, "online");
  next.take("subscribe").ok({ ...BODY, seq: 5, recovered: true, missed: 1 });
  const messages = collect(client.channel("room"), "message");
  next.message("room", 5);
  assert.deepEqual(messages.map(({ seq }) => seq), [5]);
});

test("what is subscribed there when the old server closes is not subscribed twice", () => {
  const refused = collect(client.channel("room"), "refused");
  const old = subscribed();
  const next = moved(old);
  next.accept();
  old.cut();
  mock.timers.tick(60_000);
  assert.deepEqual(next.commands(), ["subscribe"]);
  assert.deepEqual(refused, []);
});

test("a channel that is subscribed during a move is followed on the new server", async () => {
  const old = subscribed();
  const room = client.channel("other");
  const messages = collect(room, "message");
  const next = moved(old);
  next.accept();
  const subscribing = room.subscribe();
  next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
  assert.equal(old.dropped, false, "it is waited for");
  const subscribe = next.take("subscribe");
  assert.equal(subscribe.fields["channel"], "other");
  subscribe.ok({ channel: "other", history: false });
  await subscribing;
  assert.deepEqual([old.dropped, old.commands(), next.commands()], [true, [], []]);
  next.events.push("message", { channel: "other", id: "1", event: "message", data: 1, from: { user: "a" }, at: 1 });
  assert.equal(messages.length, 1);
});

test("a channel that is subscribed while the last answers are waited for is followed on the new server", async () => {
  const old = subscribed();
  void client.channel("room").publish("a");
  const next = moved(old);
  next.accept();
  next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
  const subscribing = client.channel("other").subscribe();
  old.take("publish").ok({ ...BODY, id: "1", seq: 5, at: 1 });
  assert.equal(old.dropped, true);
  next.take("subscribe").ok({ channel: "other", history: true, epoch: "e2", seq: 1 });
  assert.equal((await subscribing).seq, 1);
  assert.deepEqual(next.commands(), []);
});

test("a channel that the new server cannot take yet is heard by the old one, and asked for there again", () => {
  const old = subscribed();
  const messages = collect(client.channel("room"), "message");
  const next = moved(old);
  next.accept();
  next.take("subscribe").error("unavailable", "later");
  old.message("room", 5);
  mock.timers.tick(1_000);
  assert.deepEqual([old.dropped, old.commands()], [false, []]);
  const again = next.take("subscribe");
  assert.deepEqual(again.fields["since"], { epoch: "e1", seq: 5 });
  again.error("rate_limited", "later");
  // The time of the move is up.
  mock.timers.tick(5_000);
  assert.equal(old.dropped, true);
  const last = next.take("subscribe");
  last.ok({ ...BODY, seq: 6, recovered: true, missed: 1 });
  next.message("room", 6);
  assert.deepEqual(messages.map(({ seq }) => seq), [5, 6]);
});

test("what the old server still answers to a subscription that is made at the new one is not heard", () => {
  const told = collect(client.channel("room"), "subscribed");
  void client.channel("room").subscribe();
  const old = server.accept();
  const next = moved(old);
  next.accept();
  old.take("subscribe").error("draining", "reconnect");
  assert.equal(server.links.length, 2);
  next.take("subscribe").ok({ ...BODY, seq: 4 });
  assert.deepEqual([told.length, old.dropped, next.dropped], [1, true, false]);
});

test("a channel that is left while it is to be asked for again is not waited for", () => {
  const old = subscribed();
  const next = moved(old);
  next.accept();
  next.take("subscribe").error("unavailable", "later");
  void client.channel("room").unsubscribe();
  old.take("unsubscribe").ok();
  assert.equal(old.dropped, true);
});

test("a subscription that the old server ends during a move is made there again when the move comes to nothing", () => {
  const old = subscribed();
  const next = moved(old);
  next.accept();
  old.events.push("unsubscribed", { channel: "room", error: { code: "unavailable", message: "", retry: "later" } });
  mock.timers.tick(1_000);
  assert.deepEqual(next.commands(), ["subscribe", "subscribe"]);
  next.cut();
  assert.deepEqual(old.commands(), ["subscribe"]);
});

test("who leaves a channel during a move leaves it on both servers", async () => {
  const old = subscribed();
  void client.channel("other").subscribe();
  old.take("subscribe").ok({ channel: "other", history: false });
  const next = moved(old);
  next.accept();
  next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
  const left = [client.channel("room").unsubscribe(), client.channel("other").unsubscribe()];
  assert.deepEqual(next.commands(), ["subscribe", "unsubscribe", "unsubscribe"]);
  old.take("unsubscribe").ok();
  assert.equal(old.dropped, false);
  old.take("unsubscribe").ok();
  await Promise.all(left);
  assert.equal(old.dropped, true, "nothing is waited for any more");
  // Who comes back is there, whatever was left before.
  void client.channel("room").subscribe();
  assert.deepEqual(next.commands(), ["subscribe", "unsubscribe", "unsubscribe", "subscribe"]);
});

test("a channel's token that ends during a move is renewed where the channel is heard", async () => {
  let given = 0;
  const room = client.channel("room");
  void room.subscribe({ token: () => `c${++given}` });
  void client.channel("other").subscribe();
  const old = server.accept();
  await settle();
  old.take("subscribe").ok({ channel: "other", history: false });
  old.take("subscribe").ok({ ...BODY, seq: 4 });
  const next = moved(old);
  next.accept();
  await settle();
  next.take("subscribe");
  next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
  next.events.push("unsubscribed", { channel: "room", error: { code: "token_expired", message: "", retry: "no" } });
  await settle();
  assert.deepEqual(old.commands(), []);
  assert.equal(next.take("subscribe").fields["token"], "c3");
});

test("what was subscribed at a new server that goes is subscribed at the old one; what never left stays", async () => {
  const old = subscribed();
  const next = moved(old);
  next.accept();
  const subscribing = client.channel("other").subscribe();
  next.cut();
  mock.timers.tick(400);
  assert.deepEqual(old.received.map(({ fields }) => fields["channel"]), ["other"]);
  old.take("subscribe").ok({ channel: "other", history: false });
  assert.equal((await subscribing).history, false);
});

test("what no server has taken yet is asked for after a move that came to nothing, too", () => {
  const next = moved(subscribed());
  next.accept();
  next.take("subscribe").error("unavailable", "later");
  mock.timers.tick(1_000);
  next.take("subscribe").error("unavailable", "later");
  mock.timers.tick(4_000);
  next.take("subscribe").error("unavailable", "later");
  const third = moved(next);
  third.accept();
  third.take("subscribe");
  third.cut();
  assert.deepEqual(next.commands(), ["subscribe"]);
});

test("what was lost on the way is asked for after a move that came to nothing, too", () => {
  const old = subscribed();
  const messages = collect(client.channel("room"), "message");
  const next = moved(old);
  old.message("room", 6);
  old.take("subscribe").error("unavailable", "later");
  next.accept();
  next.cut();
  old.take("subscribe").ok({ ...BODY, seq: 6, recovered: true, missed: 2 });
  for (const seq of [5, 6]) old.message("room", seq);
  assert.deepEqual(messages.map(({ seq }) => seq), [5, 6]);
});

test("a channel that was given back is asked for after the next move that came to nothing, too", () => {
  const old = subscribed();
  const cutAfter = (answered: boolean) => {
    const next = server.link;
    next.accept();
    if (answered) next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
    next.cut();
  };
  void client.channel("room").publish("not answered yet");
  moved(old);
  cutAfter(true);
  old.take("subscribe").error("unavailable", "later");
  mock.timers.tick(1_000);
  old.received.length = 0;
  cutAfter(false);
  assert.deepEqual(old.commands(), ["subscribe"]);
});

test("what is published behind something that is lost with the old server comes behind it", async (context) => {
  for (const lose of [() => mock.timers.tick(1_000), (old: FakeLink) => old.cut()]) {
    server = new FakeServer();
    client = server.client({ backoff: { min: 1_000, max: 8_000 } });
    context.after(() => client.close());
    const old = subscribed();
    const room = client.channel("room");
    const acked: Promise<unknown>[] = [room.publish("a"), client.publishTo("bob", "x")];
    const next = moved(old);
    next.accept();
    next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
    acked.push(room.publish("b"), room.edit(2, "c"), client.publishTo("bob", "y"));
    lose(old);
    assert.equal(old.dropped, true);
    mock.timers.tick(1_000);
    const sent = next.received.splice(0);
    const dataTo = (key: string) => sent.filter(({ fields }) => key in fields).map(({ fields }) => fields["data"]);
    assert.deepEqual([dataTo("channel"), dataTo("user")], [["a", "b", "c"], ["x", "y"]]);
    for (const { ok } of sent) ok({ ...BODY, id: "?", seq: 5, at: 1 });
    await Promise.all(acked);
  }
});

test("a token that ends on the new connection during a move is renewed there", async () => {
  server = new FakeServer();
  let given = 0;
  client = server.client({ token: () => `t${++given}`, backoff: { min: 1_000, max: 8_000 } });
  const told = collect(client, "token_expiring");
  await settle();
  const old = subscribed();
  moved(old);
  await settle();
  const next = server.link;
  next.accept();
  next.events.push("token_expiring", { expires_at: 60_000 });
  await settle();
  assert.deepEqual([told.length, old.commands()], [1, []]);
  const first = next.received.find(({ command }) => command === "refresh");
  assert.deepEqual(first?.fields, { token: "t3" });
  // It goes on there when the move is over.
  first?.error("unavailable", "later");
  next.take("subscribe").ok({ ...BODY, seq: 4, recovered: true, missed: 0 });
  assert.equal(old.dropped, true);
  await settle();
  mock.timers.tick(1_000);
  await settle();
  next.take("refresh");
  assert.equal(next.take("refresh").fields["token"], "t4");
});

test("a new token that is given by hand during a move goes to both", async () => {
  const old = subscribed();
  const next = moved(old);
  next.accept();
  const refreshed = client.refresh("u");
  old.take("refresh").ok({ expires_at: 6 });
  next.take("refresh").ok({ expires_at: 7 });
  assert.equal(await refreshed, 7);
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
  next.accept();
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
