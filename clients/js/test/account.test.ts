import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Account, type AccountStorage } from "../src/index.ts";
import { collect } from "./fake.ts";

const HOUR = 3_600_000;

interface Asked {
  readonly what: string;
  readonly body: Record<string, unknown>;
  readonly authorization: string | null;
}

let asked: Asked[];
/** How many tokens the server has issued. */
let issued: number;
let respond: (asked: Asked) => Response | Promise<Response>;
let kept: Map<string, string>;
let storage: AccountStorage;

beforeEach((context) => {
  mock.timers.enable({ apis: ["Date"] });
  if ("after" in context) context.after(() => mock.timers.reset());
  asked = [];
  issued = 0;
  respond = ({ what }) => (what === "logout" ? Response.json({}) : tokens());
  kept = new Map();
  storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
});

function tokens(): Response {
  issued += 1;
  return Response.json({ app: "shop", user: "ann", name: "Ann", access_token: `a${issued}`, expires_at: Date.now() + HOUR, refresh_token: `r${issued}` });
}

function refusal(status: number, code: string, retry = "no"): Response {
  return Response.json({ error: { code, message: code, retry } }, { status });
}

function account(where: AccountStorage | null = storage): Account {
  const ask: typeof fetch = async (url, options) => {
    const what = String(url).replace("http://home/api/v1/auth/", "");
    const request = { what, body: JSON.parse(String(options?.body)), authorization: new Headers(options?.headers).get("authorization") };
    asked.push(request);
    return respond(request);
  };
  return new Account("http://home/", { app: "shop", storage: where, fetch: ask });
}

const login = { user: "ann", password: "correct horse", device: { id: "d1", platform: "web" } };

test("who logs in is signed in, in every tab and after a reload", async () => {
  const ann = account();
  const signedIn = collect(ann, "signed_in");
  assert.deepEqual(await ann.login(login), { app: "shop", user: "ann", name: "Ann" });
  assert.deepEqual(asked[0], { what: "login", body: { app: "shop", ...login }, authorization: null });
  assert.equal(signedIn.length, 1);
  assert.equal(account().signedIn?.user, "ann");
  assert.equal(await account().token(), "a1");
  assert.equal(asked.length, 1);
  assert.equal(account(null).signedIn, undefined);
});

test("a wrong password is told as the server tells it, and changes nothing", async () => {
  respond = () => refusal(401, "bad_credentials");
  await assert.rejects(account().register({ ...login, name: "Ann" }), { code: "bad_credentials", retry: "no" });
  assert.equal(kept.size, 0);
});

test("a token is good for a while when it is given out, and longer when one is about to expire", async () => {
  const ann = account();
  await ann.login(login);
  mock.timers.tick(HOUR - 100_000);
  assert.equal(await ann.token("connect"), "a1");
  assert.equal(await ann.token("expiring"), "a2");
  assert.deepEqual(asked.at(-1), { what: "refresh", body: { refresh_token: "r1" }, authorization: null });
  mock.timers.tick(HOUR - 20_000);
  assert.equal(await ann.token("connect"), "a3");
});

test("a token that was refused is replaced, whatever our clock says; one that another tab has replaced is not", async () => {
  const [ann, tab] = [account(), account()];
  await ann.login(login);
  await Promise.all([ann.token(), tab.token()]);
  assert.equal(await ann.token("expired"), "a2");
  assert.equal(await tab.token("expired"), "a2");
});

test("one refresh is under way at a time", async () => {
  const ann = account(null);
  await ann.login(login);
  mock.timers.tick(HOUR);
  assert.deepEqual(await Promise.all([ann.token(), ann.token(), ann.refresh()]), ["a2", "a2", "a2"]);
  assert.equal(asked.length, 2);
});

test("of all tabs only one refreshes", async (context) => {
  let last: Promise<unknown> = Promise.resolve();
  const request = (_: string, work: () => Promise<unknown>) => (last = last.then(work, work));
  const original = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: { locks: { request } }, configurable: true });
  context.after(() => (original ? Object.defineProperty(globalThis, "navigator", original) : Reflect.deleteProperty(globalThis, "navigator")));
  const tabs = [account(), account(), account()];
  await tabs[0]?.login(login);
  mock.timers.tick(HOUR);
  assert.deepEqual(await Promise.all(tabs.map((tab) => tab.token())), ["a2", "a2", "a2"]);
  assert.equal(asked.filter(({ what }) => what === "refresh").length, 1);
});

test("a login that the server has ended is over; one that it cannot answer for is not", async () => {
  const ann = account();
  const signedOut = collect(ann, "signed_out");
  await ann.login(login);
  for (const failure of [refusal(503, "unavailable", "later"), new Response("bad gateway", { status: 502 })]) {
    respond = () => failure;
    await assert.rejects(ann.refresh(), { retry: "later" });
  }
  respond = () => Promise.reject(new TypeError("fetch failed"));
  await assert.rejects(ann.refresh(), { code: "unreachable", retry: "later" });
  assert.equal(ann.signedIn?.user, "ann");
  respond = () => refusal(401, "revoked");
  await assert.rejects(ann.refresh(), { code: "signed_out", retry: "no" });
  assert.deepEqual([ann.signedIn, kept.size, signedOut[0]?.code], [undefined, 0, "revoked"]);
  await assert.rejects(ann.token(), { code: "signed_out", retry: "no" });
});

test("logging out shows the token, and forgets it", async () => {
  const ann = account();
  await ann.login(login);
  await ann.logout({ everywhere: true });
  assert.deepEqual(asked.at(-1), { what: "logout", body: { everywhere: true }, authorization: "Bearer a1" });
  assert.equal(ann.signedIn, undefined);
});

test("a storage that refuses is none", async () => {
  const refuse = () => {
    throw new Error("blocked");
  };
  const ann = account({ getItem: refuse, setItem: refuse, removeItem: refuse });
  await ann.login(login);
  assert.equal(await ann.token(), "a1");
});
