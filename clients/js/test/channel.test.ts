import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import type { Channel, Client, Message } from "../src/index.ts";
import { collect, FakeServer, settle } from "./fake.ts";

const ACK_TIMEOUT = 10_000;
const BACK_SOON = 20_000;

let server: FakeServer;
let client: Client;
let channel: Channel;
let seen: Message[];

beforeEach((context) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  if ("after" in context) context.after(() => mock.timers.reset());
  server = new FakeServer();
  client = server.client();
  channel = client.channel("room");
  seen = collect(channel, "message");
});

/** Subscribes with the head at 10 and delivers 11 and 12. */
function subscribeAndRead(): void {
  void channel.subscribe();
  const link = server.accept();
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 10 });
  link.message("room", 11);
  link.message("room", 12);
}

function comeBack() {
  server.link.cut();
  mock.timers.tick(BACK_SOON);
  return server.accept();
}

test("a subscription made while connecting is sent once connected, and resolves with the answer", async () => {
  const subscribed = channel.subscribe({ presence: true });
  assert.deepEqual(server.link.commands(), []);
  const link = server.accept();
  const { fields, ok } = link.take("subscribe");
  assert.deepEqual(fields, { channel: "room", presence: true });
  ok({ channel: "room", history: true, epoch: "e1", seq: 10, presence: { count: 1, users: [{ user: "ann" }] } });
  assert.equal((await subscribed).seq, 10);
  assert.deepEqual(channel.position, { epoch: "e1", seq: 10 });
  assert.equal(channel.presence?.count, 1);
});

test("asking again for the same subscription is the same subscription", () => {
  const first = channel.subscribe();
  assert.equal(channel.subscribe(), first);
  assert.deepEqual(server.accept().commands(), ["subscribe"]);
});

test("a message is delivered once, whatever is sent twice", () => {
  subscribeAndRead();
  server.link.message("room", 12);
  server.link.message("room", 11);
  server.link.message("room", 13);
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12, 13]);
});

test("after a cut the subscription resumes where it stopped and counts what came back", () => {
  const recovered = collect(channel, "recovered");
  subscribeAndRead();
  const link = comeBack();
  const { fields, ok } = link.take("subscribe");
  assert.deepEqual(fields, { channel: "room", since: { epoch: "e1", seq: 12 } });
  ok({ channel: "room", history: true, epoch: "e1", seq: 15, recovered: true, missed: 3 });
  link.message("room", 13);
  link.message("room", 14);
  assert.deepEqual(recovered, []);
  assert.deepEqual(client.stats, { missed: 3, recovered: 2 });
  link.message("room", 15);
  link.message("room", 16);
  assert.deepEqual(recovered, [{ channel: "room", missed: 3, recovered: 3 }]);
  assert.deepEqual(client.stats, { missed: 3, recovered: 3 });
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12, 13, 14, 15, 16]);
});

test("a second cut during the replay resumes from the last message that arrived", () => {
  subscribeAndRead();
  const link = comeBack();
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 15, recovered: true, missed: 3 });
  link.message("room", 13);
  assert.deepEqual(comeBack().take("subscribe").fields["since"], { epoch: "e1", seq: 13 });
});

test("a resume with nothing missed says so", () => {
  const recovered = collect(channel, "recovered");
  subscribeAndRead();
  const answer = { channel: "room", history: true, epoch: "e1", seq: 12, recovered: true, missed: 0 };
  comeBack().take("subscribe").ok(answer);
  assert.deepEqual(recovered, [{ channel: "room", missed: 0, recovered: 0 }]);
});

test("a history that no longer reaches back is a gap of known size, and the newest page follows", () => {
  const gaps = collect(channel, "gap");
  subscribeAndRead();
  const link = comeBack();
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 100, recovered: false, missed: 2 });
  link.message("room", 99);
  link.message("room", 100);
  const to = { epoch: "e1", seq: 100 };
  assert.deepEqual(gaps, [{ channel: "room", from: { epoch: "e1", seq: 12 }, to, lost: 86 }]);
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12, 99, 100]);
  assert.deepEqual(client.stats, { missed: 86, recovered: 0 });
});

test("another epoch is a gap of unknown size, and its lower numbers are delivered", () => {
  const gaps = collect(channel, "gap");
  subscribeAndRead();
  const link = comeBack();
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e2", seq: 2, recovered: false, missed: 2 });
  link.message("room", 1, "e2");
  link.message("room", 2, "e2");
  assert.deepEqual(gaps, [{ channel: "room", from: { epoch: "e1", seq: 12 }, to: { epoch: "e2", seq: 2 } }]);
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12, 1, 2]);
});

test("a server whose head is behind ours gives a gap, not a deaf client", () => {
  const gaps = collect(channel, "gap");
  subscribeAndRead();
  const link = comeBack();
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 5, recovered: false, missed: 1 });
  link.message("room", 5);
  link.message("room", 6);
  assert.equal(gaps.length, 1);
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12, 5, 6]);
});

test("an epoch that changes under a live subscription is a gap too", () => {
  const gaps = collect(channel, "gap");
  subscribeAndRead();
  server.link.message("room", 1, "e2");
  assert.equal(gaps.length, 1);
  assert.deepEqual(channel.position, { epoch: "e2", seq: 1 });
});

test("a gap that the server tells of is skipped and told on", () => {
  const gaps = collect(channel, "gap");
  subscribeAndRead();
  server.link.events.push("gap", { channel: "room", epoch: "e1", seq: 20 });
  server.link.message("room", 20);
  server.link.message("room", 21);
  const to = { epoch: "e1", seq: 20 };
  assert.deepEqual(gaps, [{ channel: "room", from: { epoch: "e1", seq: 12 }, to, lost: 8 }]);
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12, 21]);
});

test("an unanswered subscribe is sent again from the same position", () => {
  subscribeAndRead();
  const link = comeBack();
  const first = link.take("subscribe");
  mock.timers.tick(ACK_TIMEOUT);
  mock.timers.tick(BACK_SOON);
  assert.deepEqual(link.take("subscribe").fields, first.fields);
});

test("an attempt that was planned is not made beside the one of a new connection", () => {
  const refused = collect(channel, "refused");
  void channel.subscribe();
  server.accept().take("subscribe").error("unavailable", "later");
  client.pause();
  client.resume();
  const link = server.accept();
  mock.timers.tick(1_000);
  assert.deepEqual(link.commands(), ["subscribe"]);
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 10 });
  link.message("room", 11);
  assert.deepEqual([refused.length, seen.length], [0, 1]);
});

test("an attempt that a later one overtakes is no refusal", () => {
  const refused = collect(channel, "refused");
  subscribeAndRead();
  const link = comeBack();
  link.events.push("unsubscribed", { channel: "room", error: { code: "unavailable", message: "", retry: "later" } });
  mock.timers.tick(1_000);
  assert.deepEqual(link.commands(), ["subscribe", "subscribe"]);
  link.take("subscribe");
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 13, recovered: true, missed: 1 });
  link.message("room", 13);
  assert.deepEqual([refused.length, seen.length], [0, 3]);
});

test("an attempt that was under way when the server ended the one before it is enough", () => {
  subscribeAndRead();
  const link = comeBack();
  link.events.push("unsubscribed", { channel: "room", error: { code: "unavailable", message: "", retry: "later" } });
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 12, recovered: true, missed: 0 });
  mock.timers.tick(BACK_SOON);
  assert.deepEqual(link.commands(), []);
});

test("a subscription that is cancelled by nobody here is made again", () => {
  const refused = collect(channel, "refused");
  void channel.subscribe();
  const link = server.accept();
  link.take("subscribe").error("cancelled", "no");
  mock.timers.tick(BACK_SOON);
  assert.deepEqual([link.commands(), refused], [["subscribe"], []]);
});

test("a subscription that the server ends for now is made again, from where it stopped", () => {
  const ended = [collect(channel, "unsubscribed"), collect(client, "unsubscribed")];
  subscribeAndRead();
  const { link } = server;
  link.events.push("unsubscribed", { channel: "room", error: { code: "unavailable", message: "", retry: "later" } });
  assert.deepEqual(link.commands(), [], "not at once: others are told, too");
  mock.timers.tick(1_000);
  const again = link.take("subscribe");
  assert.deepEqual(again.fields["since"], { epoch: "e1", seq: 12 });
  again.error("unavailable", "later");
  mock.timers.tick(1_000);
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 13, recovered: true, missed: 1 });
  link.message("room", 13);
  assert.deepEqual([seen.length, ended], [3, [[], []]]);
});

test("a refused subscription rejects, tells, and is not tried again", async () => {
  const refused = collect(channel, "refused");
  const subscribed = channel.subscribe();
  server.accept().take("subscribe").error("forbidden", "no");
  await assert.rejects(subscribed, { code: "forbidden" });
  assert.equal(refused.length, 1);
  assert.deepEqual(comeBack().commands(), []);
});

test("after unsubscribe nothing is delivered and nothing is resumed", async () => {
  subscribeAndRead();
  const left = channel.unsubscribe();
  server.link.message("room", 13);
  server.link.take("unsubscribe").ok({ channel: "room" });
  await left;
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12]);
  assert.deepEqual(comeBack().commands(), []);
});

test("an answer that comes after unsubscribe brings nothing back", () => {
  void channel.subscribe();
  const late = server.accept().take("subscribe");
  void channel.unsubscribe();
  late.ok({ channel: "room", history: true, epoch: "e1", seq: 10 });
  assert.equal(channel.position, undefined);
});

test("a live message behind a replay that ended short is not counted as recovered", () => {
  const recovered = collect(channel, "recovered");
  subscribeAndRead();
  const link = comeBack();
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 14, recovered: true, missed: 2 });
  link.message("room", 13);
  link.message("room", 15);
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 14, recovered: true, missed: 1 });
  link.message("room", 15);
  assert.deepEqual(recovered, [{ channel: "room", missed: 1, recovered: 0 }]);
});

test("what was lost on the way is asked for, and comes in order", () => {
  subscribeAndRead();
  const { link } = server;
  const change = { channel: "room", epoch: "e1", target: 11, id: "x", from: { user: "ann" }, at: 1 };
  link.message("room", 15);
  link.events.push("edit", { ...change, seq: 16, data: "new" });
  const again = link.take("subscribe");
  assert.deepEqual(again.fields["since"], { epoch: "e1", seq: 12 });
  link.message("room", 17);
  assert.deepEqual([seen.length, link.commands()], [2, []], "one subscription brings it all");
  again.ok({ channel: "room", history: true, epoch: "e1", seq: 17, recovered: true, missed: 5 });
  for (const seq of [13, 14, 15]) link.message("room", seq);
  link.events.push("edit", { ...change, seq: 16, data: "new" });
  for (const seq of [17, 18]) link.message("room", seq);
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12, 13, 14, 15, 17, 18]);
  assert.deepEqual(link.commands(), []);
});

test("what does not come when it was asked for is not asked for again", () => {
  subscribeAndRead();
  const { link } = server;
  link.message("room", 14);
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 14, recovered: true, missed: 2 });
  link.message("room", 14);
  link.message("room", 15);
  assert.deepEqual(seen.map(({ seq }) => seq), [11, 12, 14, 15]);
  assert.deepEqual(link.commands(), []);
});

test("places that the server says are gone, and those of another epoch, are not asked for", () => {
  subscribeAndRead();
  const { link } = server;
  link.events.push("gap", { channel: "room", epoch: "e1", seq: 20 });
  link.message("room", 21);
  link.message("room", 7, "e2");
  link.message("room", 8, "e2");
  assert.deepEqual([seen.length, link.commands()], [5, []]);
});

test("presence is kept up with who joins and leaves", () => {
  const told = collect(channel, "presence");
  void channel.subscribe({ presence: true });
  const link = server.accept();
  link.take("subscribe").ok({ channel: "room", history: false, presence: { count: 1, users: [{ user: "ann" }] } });
  link.events.push("presence", { channel: "room", count: 2, joined: [{ user: "bob", name: "Bob" }] });
  link.events.push("presence", { channel: "room", count: 2, joined: [{ user: "bob", name: "Rob" }] });
  link.events.push("presence", { channel: "room", count: 1, left: [{ user: "ann" }] });
  assert.deepEqual(told, [
    { count: 1, users: [{ user: "ann" }] },
    { count: 2, users: [{ user: "ann" }, { user: "bob", name: "Bob" }] },
    { count: 2, users: [{ user: "ann" }, { user: "bob", name: "Rob" }] },
    { count: 1, users: [{ user: "bob", name: "Rob" }] },
  ]);
});

test("own messages without echo leave no hole, and none of the others is skipped", async () => {
  subscribeAndRead();
  const first = channel.publish("a", { echo: false });
  server.link.take("publish").ok({ channel: "room", id: "x", epoch: "e1", seq: 13, at: 1 });
  await first;
  assert.equal(channel.position?.seq, 13);
  const second = channel.publish("b", { echo: false });
  server.link.take("publish").ok({ channel: "room", id: "y", epoch: "e1", seq: 15, at: 1 });
  await second;
  assert.equal(channel.position?.seq, 13);
});

test("the place of an own message without echo is passed over, before its ack and after it", async () => {
  subscribeAndRead();
  const { link } = server;
  const ack = (seq: number) => link.take("publish").ok({ channel: "room", id: "x", epoch: "e1", seq, at: 1 });
  const early = channel.publish("a", { echo: false });
  link.message("room", 14);
  assert.deepEqual([seen.length, link.commands()], [3, ["publish"]]);
  ack(13);
  await early;
  const behind = [channel.publish("b", { echo: false }), channel.publish("c", { echo: false })];
  ack(16);
  ack(17);
  await Promise.all(behind);
  await settle();
  assert.equal(channel.position?.seq, 14);
  link.message("room", 15);
  assert.equal(channel.position?.seq, 17);
  link.message("room", 18);
  assert.deepEqual([seen.length, link.commands()], [5, []]);
  link.message("room", 20);
  assert.deepEqual(link.take("subscribe").fields["since"], { epoch: "e1", seq: 18 });
});

test("an own message without echo comes with what is resumed before it", async () => {
  const recovered = collect(channel, "recovered");
  subscribeAndRead();
  const said = channel.publish("a", { echo: false });
  server.link.take("publish").ok({ channel: "room", id: "x", epoch: "e1", seq: 14, at: 1 });
  await said;
  await settle();
  const link = comeBack();
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 14, recovered: true, missed: 2 });
  for (const seq of [13, 14]) link.message("room", seq);
  assert.deepEqual(recovered, [{ channel: "room", missed: 2, recovered: 2 }]);
});

test("an own message without echo that is acked before the subscription is no hole behind it", async () => {
  void channel.subscribe();
  const said = channel.publish("a", { echo: false });
  const link = server.accept();
  link.take("publish").ok({ channel: "room", id: "x", epoch: "e1", seq: 11, at: 1 });
  await said;
  await settle();
  link.take("subscribe").ok({ channel: "room", history: true, epoch: "e1", seq: 10 });
  link.message("room", 12);
  assert.deepEqual([seen.length, link.commands()], [1, []]);
});

test("what was said here is read here, though it has not come back yet; what others have said before it is not", async () => {
  subscribeAndRead();
  const change = (seq: number) => ({ channel: "room", id: "x", epoch: "e1", seq, target: 1, at: 1 });
  const said = [channel.publish("a"), channel.edit(13, "b"), channel.delete(13)];
  server.link.take("publish").ok({ channel: "room", id: "x", epoch: "e1", seq: 13, at: 1 });
  server.link.take("edit").ok(change(14));
  server.link.take("delete").ok(change(16));
  await Promise.all(said);
  assert.equal(channel.position?.seq, 12);
  void channel.read();
  assert.equal(server.link.take("read").fields["seq"], 14);
});

test("a throwing listener neither stops the stream nor stays unheard", async (context) => {
  const thrown: unknown[] = [];
  context.mock.method(globalThis, "queueMicrotask", (task: () => void) => {
    try {
      task();
    } catch (error) {
      thrown.push(error);
    }
  });
  channel.on("message", () => {
    throw new Error("listener");
  });
  const after = collect(channel, "message");
  subscribeAndRead();
  await settle();
  assert.equal(after.length, 2);
  assert.equal(thrown.length, 2);
});
