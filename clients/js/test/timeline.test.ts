import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Timeline, type Channel, type Client } from "../src/index.ts";
import { collect, FakeServer, settle, type FakeLink } from "./fake.ts";

let server: FakeServer;
let client: Client;
let channel: Channel;
let timeline: Timeline;

beforeEach((context) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  if ("after" in context) context.after(() => mock.timers.reset());
  server = new FakeServer();
  client = server.client();
  channel = client.channel("room");
  timeline = new Timeline(channel, { page: 3 });
});

const place = { channel: "room", epoch: "e1" };
const message = (seq: number, more: object = {}) => ({ ...place, seq, id: `m${seq}`, event: "message", data: seq, from: { user: "ann" }, at: 1, ...more });

/** Subscribes at `seq`, with everything up to `read` read, and answers the newest page. */
async function open(seq = 12, read = 9, unread = seq - read): Promise<FakeLink> {
  void channel.subscribe();
  const link = server.accept();
  link.events.push("welcome", { app: "demo", user: "me", node: "n1", guest: false });
  link.take("subscribe").ok({ ...place, history: true, seq, read, delivered: read, unread });
  const messages = [seq - 2, seq - 1, seq].map((n) => message(n));
  link.take("history").ok({ ...place, first: 1, head: seq, messages });
  await settle();
  return link;
}

const view = () => timeline.entries.map(({ message: { seq, data }, state }) => [seq, data, state]);

test("it shows the newest page, then what comes, and older pages when asked", async () => {
  const link = await open();
  link.events.push("message", message(13));
  assert.deepEqual(view(), [10, 11, 12, 13].map((n) => [n, n, "sent"]));
  const loading = timeline.loadOlder();
  const { fields, ok } = link.take("history");
  assert.deepEqual(fields, { channel: "room", before: 10, limit: 3 });
  ok({ ...place, first: 8, head: 13, messages: [message(8), message(9)] });
  assert.equal(await loading, false);
  assert.equal(timeline.complete, true);
  assert.deepEqual(view().map(([seq]) => seq), [8, 9, 10, 11, 12, 13]);
});

test("edits and deletions are folded in, also before their target is here", async () => {
  const link = await open();
  link.events.push("edit", { ...place, seq: 13, target: 11, id: "x", data: "new", from: { user: "ann" }, at: 2 });
  link.events.push("delete", { ...place, seq: 14, target: 9, id: "y", from: { user: "ann" }, at: 3 });
  const loading = timeline.loadOlder();
  link.take("history").ok({ ...place, first: 1, head: 12, messages: [message(7), message(8), message(9)] });
  await loading;
  assert.deepEqual(view().filter(([seq]) => [9, 11].includes(Number(seq))), [
    [9, null, "sent"],
    [11, "new", "sent"],
  ]);
  assert.deepEqual(timeline.entries.find(({ message }) => message.seq === 9)?.message.deleted, { seq: 14, at: 3 });
});

test("what is sent is there at once, keeps its key, and takes its place with the ack", async () => {
  const link = await open();
  const key = timeline.send("mine");
  link.events.push("message", message(13));
  assert.deepEqual(view().at(-1), [undefined, "mine", "pending"]);
  link.take("publish").ok({ ...place, id: "?", seq: 14, at: 5 });
  await settle();
  assert.deepEqual(view().slice(-2), [
    [13, 13, "sent"],
    [14, "mine", "sent"],
  ]);
  assert.equal(timeline.entries.at(-1)?.key, key);
});

test("the echo may come before the ack: the message is there once", async () => {
  const link = await open();
  const key = timeline.send("mine");
  const { fields, ok } = link.take("publish");
  link.events.push("message", message(13, { id: fields["id"], from: { user: "me", name: "Me" }, data: "mine" }));
  ok({ ...place, id: fields["id"] as string, seq: 13, at: 1 });
  await settle();
  assert.deepEqual(view().slice(-2), [
    [12, 12, "sent"],
    [13, "mine", "sent"],
  ]);
  assert.equal(timeline.entries.at(-1)?.key, key);
  assert.equal(timeline.entries.at(-1)?.message.from.name, "Me");
});

test("what fails says so, and goes again by the same id or is discarded", async () => {
  const link = await open();
  const [first, second] = [timeline.send("a"), timeline.send("b")];
  const refused = link.take("publish");
  refused.error("forbidden", "no");
  link.take("publish").error("forbidden", "no");
  await settle();
  assert.deepEqual(timeline.entries.slice(-2).map(({ state, error }) => [state, error?.code]), [["failed", "forbidden"], ["failed", "forbidden"]]);
  timeline.discard(second);
  timeline.retry(first);
  assert.deepEqual(view().slice(-1), [[undefined, "a", "pending"]]);
  const again = link.take("publish");
  assert.equal(again.fields["id"], refused.fields["id"]);
  again.ok({ ...place, id: "?", seq: 13, at: 1 });
  await settle();
  assert.deepEqual(view().at(-1), [13, "a", "sent"]);
});

test("unread counts others' messages behind the marker, without silent and deleted ones", async () => {
  const link = await open(12, 9);
  assert.equal(timeline.unread, 3);
  link.events.push("message", message(13, { silent: true }));
  link.events.push("message", message(14, { from: { user: "me" } }));
  link.events.push("message", message(15));
  assert.equal(timeline.unread, 4);
  link.events.push("delete", { ...place, seq: 16, target: 11, id: "y", from: { user: "ann" }, at: 3 });
  assert.equal(timeline.unread, 3);
  const reading = timeline.read();
  const { fields, ok } = link.take("read");
  assert.deepEqual(fields, { channel: "room", seq: 16 });
  ok({ channel: "room", read: 16, delivered: 16, unread: 0 });
  await reading;
  assert.equal(timeline.unread, 0);
  link.events.push("message", message(17));
  assert.equal(timeline.unread, 1);
});

test("where more is unread than is here, the server's count goes on", async () => {
  const link = await open(500, 20, 470);
  assert.equal(timeline.unread, 470);
  link.events.push("message", message(501));
  assert.equal(timeline.unread, 471);
});

test("a hole is a gap until it is filled, and what is lost is none", async () => {
  const link = await open();
  link.cut();
  mock.timers.tick(20_000);
  const back = server.accept();
  back.take("subscribe").ok({ ...place, history: true, seq: 40, recovered: false, missed: 2 });
  back.events.push("message", message(39));
  back.events.push("message", message(40));
  assert.deepEqual(timeline.gaps, [{ from: 13, to: 38 }]);
  const [gap] = timeline.gaps;
  assert.ok(gap);
  const filling = timeline.fill(gap);
  const { fields, ok } = back.take("history");
  assert.deepEqual(fields, { channel: "room", after: 12, limit: 3 });
  ok({ ...place, first: 37, head: 40, messages: [message(37), message(38), message(39)] });
  await filling;
  assert.deepEqual(timeline.gaps, []);
  assert.deepEqual(view().map(([seq]) => seq), [10, 11, 12, 37, 38, 39, 40]);
});

test("another epoch stands behind the one before, and pages concern it alone", async () => {
  const link = await open();
  link.events.push("message", message(1, { epoch: "e2", data: "new life" }));
  assert.deepEqual(view().slice(-2), [
    [12, 12, "sent"],
    [1, "new life", "sent"],
  ]);
  assert.deepEqual(timeline.gaps, []);
});

test("a channel that keeps nothing is a timeline of what comes", async () => {
  void channel.subscribe();
  const link = server.accept();
  link.events.push("welcome", { app: "demo", user: "me", node: "n1", guest: true });
  link.take("subscribe").ok({ channel: "room", history: false });
  const { seq, epoch, ...plain } = message(1);
  link.events.push("message", plain);
  timeline.send("mine");
  link.take("publish").ok({ channel: "room", id: "?", at: 2 });
  await settle();
  assert.deepEqual(view(), [
    [undefined, 1, "sent"],
    [undefined, "mine", "sent"],
  ]);
  assert.deepEqual(link.commands(), []);
});

test("a page that does not come is told, and may be asked for again", async () => {
  void channel.subscribe();
  const link = server.accept();
  link.take("subscribe").ok({ ...place, history: true, seq: 3 });
  assert.equal(timeline.history, "loading");
  link.take("history").error("unavailable", "later");
  await settle();
  assert.equal(timeline.history, "failed");
  const loading = timeline.load();
  link.take("history").ok({ ...place, first: 1, head: 3, messages: [message(1), message(2), message(3)] });
  await loading;
  assert.equal(timeline.history, "loaded");
  assert.equal(view().length, 3);
});

test("it tells of each change, and of none once closed", async () => {
  const link = await open();
  const changes = collect(timeline, "change");
  link.events.push("message", message(13));
  assert.equal(changes.length, 1);
  timeline.close();
  link.events.push("message", message(14));
  assert.equal(changes.length, 1);
});
