import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { XpushError, type ClientOptions, type TokenReason } from "../src/index.ts";
import { collect, FakeServer, settle } from "./fake.ts";

const BACK_SOON = 20_000;

let server: FakeServer;
let asked: TokenReason[];

beforeEach((context) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  if ("after" in context) context.after(() => mock.timers.reset());
  server = new FakeServer();
  asked = [];
});

/** A client whose tokens are `t1`, `t2`, … */
function renewing(options: ClientOptions = {}) {
  return server.client({
    name: "Ann",
    token: async (reason) => {
      asked.push(reason);
      return `t${asked.length}`;
    },
    ...options,
  });
}

test("a token is shown instead of a guest's secret and name", () => {
  server.client({ name: "Ann", app: "shop", device: "phone", token: "t" });
  assert.deepEqual(server.link.credentials, { app: "shop", device: "phone", token: "t" });
});

test("a function is asked for each connection", async () => {
  renewing();
  await settle();
  assert.equal(server.link.credentials.token, "t1");
  server.accept().cut();
  mock.timers.tick(BACK_SOON);
  await settle();
  assert.equal(server.link.credentials.token, "t2");
  assert.deepEqual(asked, ["connect", "connect"]);
});

test("a function that gives none means a guest", async () => {
  server.client({ name: "Ann", token: () => undefined });
  await settle();
  assert.equal(server.link.credentials.name, "Ann");
  assert.match(String(server.link.credentials.guest), /^[0-9a-f]{32}$/);
});

test("a token that comes after the client was paused opens nothing", async () => {
  const client = renewing();
  client.pause();
  await settle();
  assert.equal(server.links.length, 0);
  client.resume();
  await settle();
  assert.equal(server.links.length, 1);
});

test("a function that fails is asked again; unless it says that it never will", async () => {
  let failure: Error = new Error("offline");
  const client = server.client({ token: () => Promise.reject(failure) });
  await settle();
  const { state } = client;
  assert.equal(state.status === "waiting" && state.error.code, "no_token");
  failure = new XpushError("signed_out", "sign in again", "no");
  mock.timers.tick(BACK_SOON);
  await settle();
  assert.equal(client.state.status, "closed");
});

test("a token refused as expired is replaced; a fixed one ends the client", async () => {
  const expired = new XpushError("token_expired", "expired", "no");
  renewing();
  await settle();
  server.link.events.down(expired);
  mock.timers.tick(BACK_SOON);
  await settle();
  assert.equal(server.link.credentials.token, "t2");
  assert.deepEqual(asked, ["connect", "expired"]);
  const fixed = server.client({ token: "t" });
  server.link.events.down(expired);
  assert.equal(fixed.state.status, "closed");
});

test("a connection that ends at its token's end comes back with a new one; a revoked one does not", async () => {
  const client = renewing();
  await settle();
  const link = server.accept();
  link.events.push("closing", { error: { code: "token_expired", message: "expired", retry: "no" } });
  link.cut();
  mock.timers.tick(BACK_SOON);
  await settle();
  server.accept().events.push("closing", { error: { code: "revoked", message: "revoked", retry: "no" } });
  server.link.cut();
  assert.equal(client.state.status, "closed");
});

test("before a token ends, a new one goes over the same connection", async () => {
  const client = renewing();
  const told = collect(client, "token_expiring");
  await settle();
  const link = server.accept();
  link.events.push("token_expiring", { expires_at: 60_000 });
  await settle();
  const { fields, error } = link.take("refresh");
  assert.deepEqual(fields, { token: "t2" });
  assert.deepEqual([told, asked], [[{ expires_at: 60_000 }], ["connect", "expiring"]]);
  error("unavailable", "later");
  await settle();
  mock.timers.tick(BACK_SOON);
  await settle();
  link.take("refresh").ok({ expires_at: 120_000 });
  await settle();
  mock.timers.tick(BACK_SOON);
  await settle();
  assert.deepEqual(link.commands(), []);
  assert.equal(server.links.length, 1);
});

test("refresh by hand resolves with the new end", async () => {
  const client = server.client({ token: "t" });
  const link = server.accept();
  link.events.push("token_expiring", { expires_at: 60_000 });
  assert.deepEqual(link.commands(), []);
  const refreshed = client.refresh("u");
  link.take("refresh").ok({ expires_at: 7 });
  assert.equal(await refreshed, 7);
});

test("a channel's token is asked for with each subscription, and again once it has expired", async () => {
  const client = server.client();
  const channel = client.channel("private");
  const unsubscribed = collect(channel, "unsubscribed");
  const subscribed = channel.subscribe({
    token: (reason) => {
      asked.push(reason);
      return `c${asked.length}`;
    },
  });
  const link = server.accept();
  await settle();
  const first = link.take("subscribe");
  assert.deepEqual(first.fields, { channel: "private", token: "c1" });
  first.error("token_expired", "no");
  mock.timers.tick(BACK_SOON);
  await settle();
  link.take("subscribe").ok({ channel: "private", history: false });
  await subscribed;
  link.events.push("unsubscribed", { channel: "private", error: { code: "token_expired", message: "", retry: "no" } });
  await settle();
  assert.equal(link.take("subscribe").fields["token"], "c3");
  assert.deepEqual(asked, ["connect", "expired", "expired"]);
  assert.deepEqual(unsubscribed, []);
});
