// What members' channels have beside messages: edits, markers, receipts, typing, lists.
import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import type { Channel, Client, Person } from "../src/index.ts";
import { collect, FakeServer, type FakeLink } from "./fake.ts";

const BACK_SOON = 20_000;

let server: FakeServer;
let client: Client;
let channel: Channel;

beforeEach((context) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  if ("after" in context) context.after(() => mock.timers.reset());
  server = new FakeServer();
  client = server.client();
  channel = client.channel("room");
});

/** Subscribes with the head at 10, of which we have read 4 and Bob 7. */
function open(): FakeLink {
  void channel.subscribe({ receipts: true });
  const link = server.accept();
  link.events.push("welcome", { app: "demo", user: "me", node: "n1", guest: false });
  const { fields, ok } = link.take("subscribe");
  assert.deepEqual(fields, { channel: "room", receipts: true });
  const receipts = [{ user: "bob", read: 7, delivered: 9 }];
  ok({ channel: "room", history: true, epoch: "e1", seq: 10, read: 4, delivered: 6, unread: 5, receipts });
  return link;
}

test("edits and deletions wait, retry by the same id, and keep their order with publishes", async () => {
  void channel.publish("a");
  const edited = channel.edit(3, "b");
  void channel.delete(2, { id: "mine" });
  const link = server.accept();
  assert.deepEqual(link.commands(), ["publish", "edit", "delete"]);
  const { fields } = link.take("edit");
  assert.deepEqual({ ...fields, id: "?" }, { channel: "room", seq: 3, data: "b", id: "?" });
  link.cut();
  mock.timers.tick(BACK_SOON);
  const back = server.accept();
  const again = back.take("edit");
  assert.deepEqual(again.fields, fields);
  again.ok({ channel: "room", id: "?", epoch: "e1", seq: 12, target: 3, at: 1 });
  assert.equal((await edited).seq, 12);
  assert.deepEqual(back.take("delete").fields, { channel: "room", seq: 2, id: "mine" });
});

test("an edit whose outcome is unknown goes again by the same id", () => {
  void channel.edit(3, "b");
  const link = server.accept();
  const { fields, error } = link.take("edit");
  error("outcome_unknown", "now");
  mock.timers.tick(BACK_SOON);
  assert.deepEqual(link.take("edit").fields, fields);
});

test("edits and deletions come in the channel's order, once, and resume behind them", () => {
  const [edits, deletions] = [collect(channel, "edit"), collect(channel, "delete")];
  const link = open();
  const change = { channel: "room", epoch: "e1", target: 3, id: "x", from: { user: "bob" }, at: 1 };
  link.events.push("edit", { ...change, seq: 11, data: "new" });
  link.events.push("edit", { ...change, seq: 11, data: "new" });
  link.events.push("delete", { ...change, seq: 12 });
  assert.deepEqual([edits.length, deletions.length], [1, 1]);
  link.cut();
  mock.timers.tick(BACK_SOON);
  assert.deepEqual(server.accept().take("subscribe").fields["since"], { epoch: "e1", seq: 12 });
});

test("the marker goes to the furthest place that was asked for, in one command at a time", async () => {
  const link = open();
  const markers = [channel.read(5), channel.read(8), channel.read(7)];
  const first = link.take("read");
  assert.equal(first.fields["seq"], 5);
  first.ok({ channel: "room", read: 5, delivered: 6, unread: 4 });
  const second = link.take("read");
  assert.equal(second.fields["seq"], 8);
  second.ok({ channel: "room", read: 8, delivered: 8, unread: 2 });
  assert.deepEqual((await Promise.all(markers)).map(({ read }) => read), [5, 8, 8]);
  assert.deepEqual(channel.marker, { read: 8, delivered: 8 });
  assert.deepEqual(link.commands(), []);
});

test("a marker that was moved offline goes with the next connection", async () => {
  open().cut();
  const moving = Promise.all([channel.read(9), channel.delivered(10)]);
  mock.timers.tick(BACK_SOON);
  const link = server.accept();
  link.take("read").ok({ channel: "room", read: 9, delivered: 9, unread: 1 });
  link.take("delivered").ok({ channel: "room", read: 9, delivered: 10, unread: 1 });
  await moving;
  assert.deepEqual(channel.marker, { read: 9, delivered: 10 });
});

test("a marker that is refused rejects; one that may be tried again is", async () => {
  const link = open();
  const reading = channel.read(9);
  link.take("read").error("unavailable", "later");
  mock.timers.tick(BACK_SOON);
  link.take("read").error("no_history", "no");
  await assert.rejects(reading, { code: "no_history" });
});

test("receipts tell how far the others are, forward only; our own other devices move our marker", () => {
  const [read, delivered] = [collect(channel, "read"), collect(channel, "delivered")];
  const link = open();
  assert.deepEqual([...channel.receipts], [["bob", { read: 7, delivered: 9 }]]);
  link.events.push("read", { channel: "room", user: "bob", seq: 10 });
  link.events.push("read", { channel: "room", user: "bob", seq: 8 });
  link.events.push("delivered", { channel: "room", user: "cem", seq: 3 });
  link.events.push("read", { channel: "room", user: "me", seq: 9 });
  assert.deepEqual([...channel.receipts], [
    ["bob", { read: 10, delivered: 10 }],
    ["cem", { read: 0, delivered: 3 }],
  ]);
  assert.deepEqual(channel.marker, { read: 9, delivered: 9 });
  assert.deepEqual([read.length, delivered.length], [3, 1]);
});

test("publishing reads up to one's own message", async () => {
  const link = open();
  const publishing = channel.publish("a");
  link.take("publish").ok({ channel: "room", id: "?", epoch: "e1", seq: 11, at: 1 });
  await publishing;
  assert.deepEqual(channel.marker, { read: 11, delivered: 11 });
});

test("another epoch has markers of its own", () => {
  const link = open();
  link.message("room", 1, "e2");
  assert.deepEqual([channel.marker, channel.receipts.size], [undefined, 0]);
});

test("who types is told until the time is up, it is told again, or the message comes", () => {
  const told = collect(channel, "typing");
  const link = open();
  const typing = (user: string, ttl: number) => link.events.push("signal", { channel: "room", event: "typing", data: null, from: { user }, at: 1, ttl });
  typing("bob", 5_000);
  typing("cem", 5_000);
  typing("me", 5_000);
  mock.timers.tick(3_000);
  typing("bob", 5_000);
  mock.timers.tick(2_000);
  assert.deepEqual(channel.typists, [{ user: "bob" }]);
  link.message("room", 11, "e1", { user: "bob" });
  assert.deepEqual(channel.typists, []);
  typing("cem", 5_000);
  typing("cem", 0);
  assert.deepEqual(told.map((people: readonly Person[]) => people.map(({ user }) => user)), [["bob"], ["bob", "cem"], ["bob"], [], ["cem"], []]);
});

test("typing is told now and then, not with each key; and that it ended, if it was told", () => {
  const link = open();
  const sent = () => link.received.splice(0).map(({ fields }) => fields["ttl"]);
  channel.typing(false);
  channel.typing();
  channel.typing();
  assert.deepEqual(sent(), [6_000]);
  mock.timers.tick(3_000);
  channel.typing();
  channel.typing(false);
  channel.typing(false);
  assert.deepEqual(sent(), [6_000, 0]);
});

test("a subscription that the server ends is over, and can be made again from where it stopped", () => {
  const [ended, told] = [collect(channel, "unsubscribed"), collect(client, "unsubscribed")];
  const link = open();
  link.message("room", 11);
  link.events.push("unsubscribed", { channel: "room", error: { code: "forbidden", message: "removed", retry: "no" } });
  link.message("room", 12);
  assert.equal(ended[0]?.code, "forbidden");
  assert.equal(told[0]?.channel, "room");
  void channel.subscribe();
  assert.deepEqual(link.take("subscribe").fields["since"], { epoch: "e1", seq: 11 });
});

test("notifications and receipts of channels that nobody opened here are told by the client", () => {
  const [news, read] = [collect(client, "notification"), collect(client, "read")];
  const link = server.accept();
  const message = { channel: "other", epoch: "e1", seq: 3, id: "x", event: "message", data: 1, from: { user: "bob" }, at: 1 };
  link.events.push("notification", { channel: "other", unread: 2, message });
  link.events.push("read", { channel: "other", user: "me", seq: 3 });
  assert.deepEqual([news[0]?.unread, read[0]?.seq], [2, 3]);
});

test("lists are asked for as the protocol has them", async () => {
  const link = server.accept();
  const members = channel.members({ add: ["bob"], role: "moderator" });
  const enrol = link.take("members");
  assert.deepEqual(enrol.fields, { channel: "room", add: ["bob"], role: "moderator" });
  enrol.ok({ channel: "room", members: [{ user: "bob", role: "moderator" }] });
  assert.deepEqual(await members, [{ user: "bob", role: "moderator" }]);

  const channels = client.channels({ limit: 2, after: "x" });
  const list = link.take("channels");
  assert.deepEqual(list.fields, { limit: 2, after: "x" });
  list.ok({ channels: [], after: "y" });
  assert.equal((await channels).after, "y");
});

test("being away is told to each connection", async () => {
  const status = client.status({ state: "away", users: ["bob"] });
  await assert.rejects(status, { code: "disconnected" });
  const first = server.accept().take("status");
  assert.deepEqual(first.fields, { state: "away" });
  first.ok({ users: [] });
});

test("a message to a user waits and retries like any other", async () => {
  const acked = client.publishTo("bob", "hello", { device: "phone", event: "note" });
  const link = server.accept();
  const { fields } = link.take("publish");
  assert.deepEqual({ ...fields, id: "?" }, { user: "bob", device: "phone", data: "hello", event: "note", id: "?" });
  link.cut();
  mock.timers.tick(BACK_SOON);
  const again = server.accept().take("publish");
  assert.deepEqual(again.fields, fields);
  again.ok({ channel: "@bob/phone", id: "?", at: 1 });
  assert.equal((await acked).channel, "@bob/phone");
});

test("a search asks for the next page by what the last one gave", async () => {
  const link = server.accept();
  const hit = { message: { channel: "chat:a", seq: 7 }, excerpt: ["say ", "hel", "lo"] };
  const first = client.search("hel from:ann", { limit: 1 });
  const asked = link.take("search");
  assert.deepEqual(asked.fields, { query: "hel from:ann", limit: 1 });
  asked.ok({ hits: [hit], before: "42" });
  assert.deepEqual(await first, { hits: [hit], before: "42" });
  const second = client.search("hel", { channel: "chat:a", before: "42" });
  const again = link.take("search");
  assert.deepEqual(again.fields, { query: "hel", channel: "chat:a", before: "42" });
  again.ok({ hits: [] });
  assert.deepEqual(await second, { hits: [] });
});
