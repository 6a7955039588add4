import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Pace } from "../src/pace.ts";
import { FakeServer, type FakeLink, type Received } from "./fake.ts";

const RATE = 100;

let server: FakeServer;

beforeEach((context) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const now = mock.method(performance, "now", () => Date.now());
  if ("after" in context) {
    context.after(() => {
      now.mock.restore();
      mock.timers.reset();
    });
  }
  server = new FakeServer();
});

/** Fails when the server would have refused one of these: it has a token bucket of two seconds' worth, which is full at first. */
function accepted(commands: readonly Received[], rate: number): void {
  let [tokens, last] = [2 * rate, commands[0]?.at ?? 0];
  for (const [index, { at }] of commands.entries()) {
    tokens = Math.min(2 * rate, tokens + ((at - last) * rate) / 1_000);
    last = at;
    assert.ok(tokens >= 1, `command ${index}, ${at - (commands[0]?.at ?? 0)} ms after the first`);
    tokens -= 1;
  }
}

/** Lets time go by, and answers everything; what has come. */
function serve(link: FakeLink, forMs: number, meanwhile?: () => void): Received[] {
  const all: Received[] = [];
  for (let passed = 0; passed <= forMs; passed += 10) {
    for (const received of link.received.splice(0)) {
      all.push(received);
      received.ok({ channel: "room", id: "?", at: 1 });
    }
    meanwhile?.();
    mock.timers.tick(10);
  }
  return all;
}

const dataOf = (commands: readonly Received[], channel: string): unknown[] =>
  commands.filter(({ command, fields }) => command === "publish" && fields["channel"] === channel).map(({ fields }) => fields["data"]);

test("a thousand publishes that have waited stay within the server's rate, and in order", async () => {
  const numbers = Array.from({ length: 1_000 }, (_, number) => number);
  const client = server.client({ queueLimit: 1_000 });
  void client.channel("room").subscribe();
  const acked = Promise.all(numbers.map((number) => client.channel("room").publish(number)));
  let sent = 0;
  // What cannot wait takes its part.
  const meanwhile = () => void (sent++ % 20 === 0 && client.channel("room").signal("tick").catch(() => undefined));
  const all = serve(server.accept({ rate: RATE }), 12_000, meanwhile);
  accepted(all, RATE);
  assert.deepEqual(dataOf(all, "room"), numbers);
  await acked;
});

test("channels that wait share the rate", () => {
  const client = server.client();
  const names = ["a", "b", "c", "d"];
  for (let number = 0; number < 250; number += 1) for (const name of names) void client.channel(name).publish(number);
  const all = serve(server.accept({ rate: RATE }), 11_000);
  accepted(all, RATE);
  const numbers = Array.from({ length: 250 }, (_, number) => number);
  for (const name of names) assert.deepEqual(dataOf(all, name), numbers);
  const half = all.slice(0, 500);
  for (const name of names) assert.ok(dataOf(half, name).length > 80, name);
});

test("publishes go on as fast as the server takes them", () => {
  const client = server.client({ queueLimit: 1_000 });
  for (let number = 0; number < 1_000; number += 1) void client.channel("room").publish(number);
  const link = server.accept({ rate: RATE });
  assert.ok(serve(link, 500).length >= 1.8 * RATE, "a burst");
  assert.ok(serve(link, 5_000).length >= 0.85 * 5 * RATE);
});

test("nothing goes before the server has told its rate, and what went before counts", () => {
  const client = server.client();
  for (const name of ["a", "b", "c"]) void client.channel(name).subscribe();
  void client.channel("a").publish(1);
  void client.channel("a").publish(2);
  const { link } = server;
  link.events.up("websocket");
  assert.deepEqual(link.commands(), ["subscribe", "subscribe", "subscribe"]);
  // A burst of four, of which a part is left alone.
  link.welcome({ rate: 2 });
  assert.deepEqual(dataOf(link.received, "a"), []);
  mock.timers.tick(300);
  assert.deepEqual(dataOf(link.received, "a"), [1]);
  mock.timers.tick(600);
  assert.deepEqual(dataOf(link.received, "a"), [1, 2]);
});

for (const [title, told] of [["says nothing of a rate", {}], ["has none", { rate: 0 }]] as const) {
  test(`a server that ${title} gets everything at once`, () => {
    const client = server.client();
    for (let channel = 0; channel < 20; channel += 1) {
      for (let number = 0; number < 30; number += 1) void client.channel(`room:${channel}`).publish(number);
    }
    assert.equal(server.accept(told).received.length, 600);
  });
}

test("what waits for its turn goes on another connection without a wait", () => {
  const client = server.client({ backoff: { min: 1_000, max: 8_000 } });
  for (const data of ["a", "b"]) void client.channel("room").publish(data);
  const first = server.accept({ rate: 1 });
  first.take("publish").ok();
  assert.deepEqual(first.commands(), []);
  first.events.push("moved", { within_ms: 10 });
  mock.timers.tick(10);
  server.accept({ rate: 1 });
  assert.deepEqual([first.dropped, dataOf(server.link.received, "room")], [true, ["b"]]);
  for (const data of ["c", "d"]) void client.channel("room").publish(data);
  client.pause();
  client.resume();
  const last = server.accept({ rate: RATE });
  assert.deepEqual(dataOf(last.received, "room"), ["b", "c", "d"]);
});

test("a rate of which nothing is left for those who wait comes back", () => {
  const pace = new Pace();
  let asked = 0;
  pace.told(10);
  for (let command = 0; command < 1_000; command += 1) pace.take();
  assert.equal(pace.ready(() => (asked += 1)), false);
  mock.timers.tick(111);
  assert.equal(asked, 0);
  mock.timers.tick(2);
  assert.equal(asked, 1, "a flood of others is not owed");
  assert.equal(pace.ready(() => undefined), true);
});
