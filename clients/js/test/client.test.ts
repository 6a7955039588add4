import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { XpushError, type Client, type State } from "../src/index.ts";
import { guestSecret } from "../src/guest.ts";
import { collect, FakeServer, settle } from "./fake.ts";

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

function refuse(code: string, retry: "no" | "later" = "later"): void {
  server.link.events.down(new XpushError(code, code, retry));
}

/** How long the client means to wait now. */
function waiting(): number {
  const { state } = client;
  assert.equal(state.status, "waiting");
  return state.status === "waiting" ? state.retryAt - Date.now() : NaN;
}

test("state follows the connection, its transport and its upgrade", () => {
  assert.deepEqual(client.state, { status: "connecting", attempt: 0 });
  server.link.events.up("polling");
  server.link.events.upgraded("websocket");
  assert.deepEqual(states, [
    { status: "online", transport: "polling" },
    { status: "online", transport: "websocket" },
  ]);
});

test("attempts wait longer and longer, up to the bound, and half of it at least", () => {
  for (const ceiling of [1_000, 2_000, 4_000, 8_000, 8_000]) {
    refuse("unreachable");
    const delay = waiting();
    assert.ok(delay >= ceiling / 2 && delay <= ceiling, `${delay} of ${ceiling}`);
    mock.timers.tick(delay);
  }
});

test("a connection that ends at once does not start the back-off anew; one that lived does", (context) => {
  context.mock.method(Math, "random", () => 1);
  for (const expected of [1_000, 2_000]) {
    server.accept().cut();
    assert.equal(waiting(), expected);
    mock.timers.tick(expected);
  }
  const link = server.accept();
  mock.timers.tick(5_000);
  link.cut();
  assert.equal(waiting(), 1_000);
});

test("retryNow does not wait", () => {
  refuse("unreachable");
  client.retryNow();
  assert.equal(server.links.length, 2);
  mock.timers.tick(14_999);
  assert.equal(server.links.length, 2, "the attempt that was planned is not made as well");
});

test("a connection that is up is left alone", () => {
  server.accept();
  mock.timers.tick(60_000);
  assert.equal(client.state.status, "online");
  assert.equal(server.links.length, 1);
});

test("a server that accepts and never answers is given up", () => {
  mock.timers.tick(15_000);
  assert.equal(server.link.dropped, true);
  assert.equal(client.state.status, "waiting");
});

test("a refusal for good closes the client and rejects what waits", async () => {
  const publish = client.channel("room").publish("a");
  const subscribe = client.channel("room").subscribe();
  refuse("unauthorized", "no");
  assert.equal(client.state.status, "closed");
  await assert.rejects(publish, { code: "unauthorized" });
  await assert.rejects(subscribe, { code: "unauthorized" });
  mock.timers.tick(60_000);
  assert.equal(server.links.length, 1);
});

test("closing says why the connection then ends", () => {
  const told = collect(client, "closing");
  const link = server.accept();
  link.events.push("closing", { error: { code: "revoked", message: "revoked", retry: "no" } });
  link.cut();
  assert.equal(told[0]?.code, "revoked");
  const { state } = client;
  assert.ok(state.status === "closed");
  assert.equal(state.error?.code, "revoked");
});

test("closing that may be retried is only the reason of the wait", () => {
  const link = server.accept();
  link.events.push("closing", { error: { code: "slow_consumer", message: "slow", retry: "reconnect" } });
  link.cut();
  const { state } = client;
  assert.equal(state.status === "waiting" && state.error.code, "slow_consumer");
  client.retryNow();
  server.accept().cut();
  const next = client.state;
  assert.equal(next.status === "waiting" && next.error.code, "disconnected", "the reason was of one connection");
});

test("pause cuts and tries nothing; resume comes back at once", () => {
  const link = server.accept();
  client.pause();
  assert.equal(link.dropped, true);
  mock.timers.tick(60_000);
  assert.equal(server.links.length, 1);
  client.resume();
  assert.equal(server.links.length, 2);
});

test("closing from within a listener ends it once", () => {
  client.on("state", () => client.close());
  refuse("unreachable");
  assert.deepEqual(states.map(({ status }) => status), ["waiting", "closed"]);
  mock.timers.tick(60_000);
  assert.equal(server.links.length, 1);
});

test("what a left connection still says is not heard", () => {
  const old = server.accept();
  const welcomes = collect(client, "welcome");
  client.pause();
  client.resume();
  old.events.push("welcome", { app: "demo", user: "old", node: "n1", guest: true });
  old.events.up("websocket");
  old.events.down(new XpushError("disconnected", "late", "reconnect"));
  assert.deepEqual(welcomes, []);
  assert.equal(client.state.status, "connecting");
});

test("rename connects again under the new name and the same guest", () => {
  server.accept();
  client.rename("Ann");
  const [before, after] = server.links.map(({ credentials }) => credentials);
  assert.equal(after?.name, "Ann");
  assert.equal(after?.guest, before?.guest);
  assert.match(String(after?.guest), /^[0-9a-f]{32}$/);
});

test("ping measures one command; without a connection it rejects", async () => {
  await assert.rejects(client.ping(), { code: "disconnected" });
  const link = server.accept();
  const ping = client.ping();
  link.take("ping").ok({ at: 1 });
  assert.ok((await ping) >= 0);
  await settle();
});

test("a guest secret is kept where it can be, and made where it cannot", () => {
  const kept = new Map<string, string>();
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  };
  assert.equal(guestSecret(storage), guestSecret(storage));
  const refusing = {
    getItem: () => {
      throw new Error("blocked");
    },
    setItem: () => undefined,
  };
  assert.match(guestSecret(refusing), /^[0-9a-f]{32}$/);
  assert.notEqual(guestSecret(null), guestSecret(null));
});
