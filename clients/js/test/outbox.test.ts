import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import type { Channel, Client } from "../src/index.ts";
import { FakeServer, settle } from "./fake.ts";

const ACK_TIMEOUT = 5_000;
const A_WHILE = 20_000;

let server: FakeServer;
let client: Client;
let channel: Channel;

beforeEach((context) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  if ("after" in context) context.after(() => mock.timers.reset());
  server = new FakeServer();
  client = server.client({ queueLimit: 40, ackTimeout: ACK_TIMEOUT });
  channel = client.channel("room");
});

function published(link = server.link): unknown[] {
  return link.received.filter(({ command }) => command === "publish").map(({ fields }) => fields["data"]);
}

test("what is published offline waits, and goes in order after the subscription", async () => {
  void channel.subscribe();
  const acked = channel.publish("a", { event: "note" });
  void channel.publish("b");
  const link = server.accept();
  assert.deepEqual(link.commands(), ["subscribe", "publish", "publish"]);
  const first = link.take("publish");
  assert.equal(first.fields["event"], "note");
  assert.match(String(first.fields["id"]), /^[0-9a-f]{32}$/);
  first.ok({ channel: "room", id: first.fields["id"] as string, seq: 1, at: 1 });
  assert.equal((await acked).seq, 1);
});

test("what was cut off unanswered goes again by the same id, in order", () => {
  const ids = ["one", "two", "three"];
  for (const id of ids) void channel.publish(id, { id });
  server.accept().cut();
  mock.timers.tick(A_WHILE);
  const link = server.accept();
  assert.deepEqual(published(link), ids);
  assert.deepEqual(link.received.map(({ fields }) => fields["id"]), ids);
});

test("an ack that never comes is asked for again by the same id", () => {
  void channel.publish("a", { id: "same" });
  const link = server.accept();
  link.take("publish");
  mock.timers.tick(ACK_TIMEOUT);
  mock.timers.tick(A_WHILE);
  assert.equal(link.take("publish").fields["id"], "same");
});

test("a refusal for now holds back what stands behind it", () => {
  for (const data of ["a", "b", "c"]) void channel.publish(data);
  const link = server.accept();
  const [a, b, c] = [link.take("publish"), link.take("publish"), link.take("publish")];
  a.error("overloaded", "later");
  void channel.publish("d");
  b.ok();
  assert.deepEqual(published(), []);
  c.error("overloaded", "later");
  assert.deepEqual(published(), []);
  mock.timers.tick(A_WHILE);
  assert.deepEqual(published(), ["a", "c", "d"]);
});

test("what is published during the wait waits too", () => {
  void channel.publish("a");
  server.accept().take("publish").error("overloaded", "later");
  void channel.publish("b");
  assert.deepEqual(published(), []);
  mock.timers.tick(A_WHILE);
  assert.deepEqual(published(), ["a", "b"]);
});

test("a new connection ends the wait", () => {
  void channel.publish("a");
  server.accept().take("publish").error("overloaded", "later");
  client.pause();
  client.resume();
  assert.deepEqual(published(server.accept()), ["a"]);
  mock.timers.tick(A_WHILE);
  assert.equal(client.state.status, "online");
});

test("a refusal for good rejects that message alone", async () => {
  const bad = channel.publish("bad");
  void channel.publish("good");
  const link = server.accept();
  link.take("publish").error("too_large", "no");
  await assert.rejects(bad, { code: "too_large", retry: "no" });
  assert.deepEqual(published(), ["good"]);
  mock.timers.tick(A_WHILE);
});

test("an answer that asks for a new connection gets one", () => {
  void channel.publish("a");
  const link = server.accept();
  link.take("publish").error("draining", "reconnect");
  assert.equal(link.dropped, true);
  assert.equal(server.links.length, 2);
  assert.deepEqual(published(server.accept()), ["a"]);
});

test("no more than the window is under way, and the next goes with each ack", () => {
  const link = server.accept();
  for (let n = 0; n < 40; n += 1) void channel.publish(n);
  assert.equal(published().length, 32);
  link.take("publish").ok();
  assert.equal(published().at(-1), 32);
});

test("a full queue rejects at once and keeps what it has", async () => {
  for (let n = 0; n < 40; n += 1) void channel.publish(n);
  await assert.rejects(channel.publish("too many"), { code: "queue_full", retry: "later" });
  assert.equal(published(server.accept()).length, 32);
});

test("close rejects what waits", async () => {
  const waiting = channel.publish("a");
  client.close();
  await assert.rejects(waiting, { code: "closed" });
  await settle();
});
