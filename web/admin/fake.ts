import * as Is from "./contract.ts";

/** A server in the page, for development only: enough of docs/administration.md to see every view with something in it. */
export function install(): void {
  const real = window.fetch.bind(window);
  window.fetch = async (input, init) => {
    const url = new URL(String(input), location.href);
    if (!url.pathname.startsWith(ROOT)) return real(input, init);
    const body = init?.body ? JSON.parse(String(init.body)) : undefined;
    const parts = url.pathname.slice(ROOT.length).split("/").map(decodeURIComponent);
    await new Promise((resolve) => setTimeout(resolve, 60));
    const answer = respond(init?.method ?? "GET", parts, body, url.searchParams) ?? refusal(404, "not_found", "There is nothing here by this name.");
    return new Response(JSON.stringify(answer.body), { status: answer.status, headers: { "content-type": "application/json" } });
  };
}

const ROOT = "/api/v1/admin/";
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const now = Date.now();

type Answer = { status: number; body: unknown };

const ok = (body: unknown): Answer => ({ status: 200, body });
const refusal = (status: number, code: string, message: string): Answer => ({ status, body: { error: { code, message, retry: "no" } } });

const rule = (channels: string, more: Partial<Is.Rule> = {}): Is.Rule => ({ ...Is.NEW_RULE, channels, ...more });

const apps: Record<string, Is.App> = {
  demo: {
    app: "demo",
    from: "file",
    in_file: true,
    revision: 0,
    settings: { guests: true, accounts: "open", origins: [], recovery: false, rules: [rule("chat:*"), rule("live:*", { history: "none" })], keys: [], hooks: [], oidc: [], calls: [] },
  },
  shop: {
    app: "shop",
    from: "live",
    in_file: false,
    revision: 7,
    changed: { at: now - 2 * HOUR, by: "ada", via: "page" },
    settings: {
      guests: true,
      accounts: "off",
      origins: ["https://shop.example", "https://www.shop.example"],
      recovery: true,
      rules: [
        rule("chat:*", { keep: { count: 1_000_000, bytes: "1GB", age: "365d" } }),
        rule("room:*", { subscribe: "members", publish: "members", read_history: "members", see_presence: "members", moderate: ["role:owner", "role:moderator"], invite: ["role:owner"], create: "users", notify: true }),
        rule("order:*", { subscribe: "token", publish: "server", read_history: "token", see_presence: "server" }),
        rule("price:*", { history: "recent", presence: false, publish: "server", keep: { count: 100 } }),
        rule("@*", { publish: "users", subscribe: "users" }),
      ],
      keys: [{ id: "main", algorithm: "HS256", created_at: now - 40 * DAY }],
      hooks: [
        { name: "main", url: "https://shop.example/xpush", events: ["message", "online", "offline"], asks: ["publish"], timeout: "2s", concurrency: 8, on_failure: "refuse" },
        { name: "crm", url: "https://crm.example/hooks/xpush/a-rather-long-path-to-see-what-happens", events: ["connected", "disconnected"], timeout: "2s", concurrency: 4 },
      ],
      oidc: [],
      calls: [],
    },
  },
};

const users: Is.UserMore[] = [
  ["ann", "Ann Lovelace", ["support"], true],
  ["bob", "Bob Kowalski", [], true],
  ["chae-won", "김채원", ["vip"], true],
  ["g-4f3a91c02bd", null, [], false],
  ["google:1173", "Dana", [], false],
].map(([user, name, roles, account], index) => ({
  user: user as string,
  name: name as string | null,
  roles: roles as string[],
  account: account as boolean,
  banned: index === 1,
  created_at: now - (index + 1) * 3 * DAY,
  tokens_valid_from: 0,
  status: { state: index === 0 ? "online" : "offline", seen_at: now - index * 5 * HOUR },
  devices: index > 2 ? [] : [{ device: "phone-7d", name: "Pixel 11", platform: "android", created_at: now - 3 * DAY, seen_at: now - HOUR }, { device: "web", name: null, platform: "web", created_at: now - DAY, seen_at: now - 30_000 }],
  logins: index > 2 ? 0 : 2,
}));

const apiKeys: Is.ApiKey[] = [
  { id: "k7Qm2", name: "orders", scopes: ["publish", "read"], created_at: now - 20 * DAY, rotated_at: null, expires_at: null, revoked_at: null, used_at: now - HOUR },
  { id: "p01xZ", name: "crm", scopes: ["publish", "read", "users"], created_at: now - 200 * DAY, rotated_at: now - DAY, expires_at: null, revoked_at: null, used_at: now - 3 * HOUR },
  { id: "a88bE", name: "old importer", scopes: ["admin"], created_at: now - 400 * DAY, rotated_at: null, expires_at: null, revoked_at: now - 90 * DAY, used_at: now - 91 * DAY },
];

const messages: Is.Message[] = Array.from({ length: 14 }, (_, index) => ({
  channel: "chat:hello",
  epoch: "5f3a",
  seq: index + 1,
  id: `m${index}`,
  event: index % 5 === 4 ? "order" : "message",
  data: index % 5 === 4 ? { id: 700 + index, state: "paid", lines: [{ item: 7, count: 2 }] } : { text: ["Good morning!", "Is anybody here?", "Yes, me.", "How do I send a file?"][index % 4] },
  from: index % 3 === 0 ? { user: "ann", name: "Ann Lovelace" } : { user: "bob" },
  at: now - (14 - index) * 60_000,
  ...(index === 3 && { deleted: { seq: 15, at: now } }),
  ...(index === 6 && { edited: { seq: 16, at: now } }),
}));

const entries: Is.Entry[] = [
  { id: "9", at: now - 60_000, by: "ada", via: "page", app: "shop", what: "rules.change", target: "shop", before: { "rules.0.history": "recent" }, after: { "rules.0.history": "durable" }, outcome: "done" },
  { id: "8", at: now - 2 * HOUR, by: "ada", via: "page", app: "shop", what: "api_key.create", target: "k7Qm2", after: { scopes: ["publish", "read"] }, outcome: "done" },
  { id: "7", at: now - 3 * HOUR, by: "grace", via: "page", what: "sign_in_refused", outcome: "refused", code: "bad_credentials" },
  { id: "6", at: now - 5 * HOUR, by: "root", via: "cli", app: "demo", what: "user.ban", target: "bob", before: { banned: false }, after: { banned: true }, outcome: "done", note: "spam" },
  { id: "5", at: now - DAY, by: "p01xZ", via: "key", app: "shop", what: "members.change", target: "room:7", outcome: "done" },
  { id: "4", at: now - 2 * DAY, by: "ada", via: "page", app: "shop", what: "app.create", target: "shop", outcome: "done" },
  { id: "3", at: now - 2 * DAY, by: "ada", via: "page", what: "set_up", outcome: "done" },
];

let published = 81_234;
const me: Is.Me = { user: "ada", name: "Ada Admin", via: "cookie", expires_at: now + DAY, version: "0.5.0", node: "5e4a3a97348a0b2d", features: ["files"] };

function respond(method: string, [first, app = "", what, id, more]: string[], body: any, query: URLSearchParams): Answer | undefined {
  switch (first) {
    case "me":
      return ok(me);
    case "setup":
      return method === "GET" ? ok({ needed: true }) : ok(me);
    case "sign-in":
      return body.password === "wrong wrong" ? refusal(401, "bad_credentials", "The user or the password is wrong.") : ok(me);
    case "stats":
      published += Math.round(40 + 25 * Math.sin(Date.now() / 7_000));
      return ok({ node: "5e4a3a97348a0b2d", at: Date.now(), started_at: now - 9 * DAY, connections: 1_284, commands: published * 2, published, delivered: published * 31, refused: 12, users: { demo: 3, shop: 1_020 }, connections_by_app: { demo: 4, shop: 1_280 }, nodes: [{ node: "a", name: "push-1", connections: 1_284, commands: published * 2, published, delivered: published * 31, refused: 12 }], missing: [] } satisfies Is.Stats);
    case "nodes":
      return ok({
        standing: "live",
        planning: true,
        nodes: ["a", "b", "c"].map((node, index) => ({ node, name: `push-${index + 1}`, url: `https://push-${index + 1}.example.com`, version: "0.5.0", roles: ["channel"], since: now - index * DAY - HOUR, connections: 1_284 - 200 * index, channels: 310 - index * 40, lag_ms: 0.4 + index, draining: index === 2, share: [0.36, 0.34, 0.3][index]!, self: index === 0 })),
      } satisfies Is.Nodes);
    case "audit":
      return ok({ entries: entries.filter((entry) => !query.get("app") || entry.app === query.get("app")) });
    case "apps":
      if (!app && method === "GET") return ok({ apps: Object.values(apps).map((one) => ({ ...one, settings: undefined, guests: one.settings.guests, accounts: one.settings.accounts, rules: one.settings.rules.length, keys: 1, hooks: one.settings.hooks?.length ?? 0, users: 3, connections: 4 })) });
      if (!app) {
        apps[body.app] = { ...apps["demo"]!, app: body.app, from: "live", in_file: false, revision: 1, settings: { ...apps["demo"]!.settings, ...body.settings } };
        return { status: 201, body: { app: apps[body.app], key: { id: "main", algorithm: "HS256", secret: "Yk3vB0m9pX2q8sT6wZ1rN4uJ7hG5fD0a" } } };
      }
  }
  const one = apps[app === "xpush" ? "shop" : app];
  if (first !== "apps" || !one) return undefined;
  switch (what) {
    case undefined:
      if (method === "GET") return ok(one);
      if (method === "PATCH") return ok((apps[app] = { ...one, from: "live", revision: one.revision + 1, changed: { at: Date.now(), by: "ada", via: "page" }, settings: { ...one.settings, ...body } }));
      delete apps[app];
      return ok({ reverted_to_file: false });
    case "origins":
    case "rules": {
      if (method === "PUT") return ok((apps[app] = { ...one, from: "live", revision: one.revision + 1, settings: { ...one.settings, ...body } }));
      const rules = body.rules as Is.Rule[];
      const fits = rules.flatMap((rule, index) => (new RegExp(`^${rule.channels.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*")}$`).test(body.channel) ? [{ index, channels: rule.channels }] : []));
      const found = fits[0] && rules[fits[0].index];
      if (!found || !fits[0]) return ok({ channel: body.channel, draft: true });
      const who = (of: Is.Who | undefined) => ({ who: [of ?? []].flat(), text: [of ?? "nobody"].flat().join(", ") || "nobody" });
      return ok({
        channel: body.channel,
        draft: true,
        rule: { ...fits[0], shadowed: fits.slice(1) },
        settings: [{ name: "history", value: found.history, reason: "the rule says so" }, { name: "presence", value: found.presence, reason: "the rule says so" }],
        everyone: { subscribe: who(found.subscribe), publish: who(found.publish), history: who(found.read_history), presence: who(found.see_presence), moderate: who(found.moderate) },
        ...(body.user && { user: { user: body.user, roles: [], may: [{ action: "subscribe", allowed: true, reason: "anyone may" }, { action: "publish", allowed: true, reason: "anyone may" }, { action: "moderate", allowed: false, reason: "nobody but the server" }] } }),
      });
    }
    case "snippets": {
      const language = (key: string, title: string, name: string, text: string) => ({ key, title, files: [{ name, text }] });
      const url = query.get("url") ?? "";
      return ok({
        url,
        app,
        channel: "chat:hello",
        clients: [language("javascript", "JavaScript", "client.mjs", `import { io } from "socket.io-client";\n\nconst socket = io("${url}", { auth: { app: "${app}", name: "Ann" } });\n`)],
        back_ends: [language("curl", "curl", "Terminal", `XPUSH_KEY='YOUR-API-KEY'\ncurl '${url}/api/v1/messages' -H "authorization: Bearer $XPUSH_KEY"\n`)],
      } satisfies Is.Snippets);
    }
    case "versions":
      return ok({ versions: Array.from({ length: one.revision }, (_, index) => ({ revision: one.revision - index, current: index === 0, changed: { at: now - index * DAY, by: "ada", via: "page" }, what: index === one.revision - 1 ? [] : ["rules"] })) });
    case "signing-keys":
      return ok({ revision: one.revision, keys: one.settings.keys, key: { id: "new", algorithm: "HS256" }, secret: "Yk3vB0m9pX2q8sT6wZ1rN4uJ7hG5fD0a" });
    case "api-keys":
      return ok(method === "GET" ? { keys: app === "shop" ? apiKeys : [] } : { api_key: apiKeys[0], secret: `xk_${app}.k7Qm2.Vb8sJ2mQ9xT4wZ1r` });
    case "users":
      if (!id) return ok({ users: app === "shop" ? users.filter((one) => `${one.user} ${one.name}`.toLowerCase().includes((query.get("search") ?? "").toLowerCase())) : [] });
      if (more === "channels") return ok({ channels: [{ channel: "chat:hello", seq: 41, read: 38, unread: 3, active_at: now - HOUR }, { channel: "room:7", seq: 9, read: 9, unread: 0, active_at: now - 9 * DAY }] });
      return ok(users.find(({ user }) => user === id));
    case "channels":
      if (!id) return ok({ node: "a", channels: app === "shop" ? [["chat:hello", 12], ["chat:support", 3], ["price:eur-usd", 1_204], ["room:7", 2], ["order:a-rather-long-name-of-a-channel-to-see-what-happens", 1]].filter(([name]) => String(name).startsWith(query.get("prefix") ?? "")).map(([channel, subscribers]) => ({ channel, subscribers, rule: 0 })) : [] });
      if (!more) return ok({ channel: id, rule: { index: 0, channels: "chat:*" }, history: "durable", presence: true, members: id.startsWith("room"), subscribers: 12, head: 41, first: 1, present: 5 });
      if (more === "messages") return ok({ channel: id, epoch: "5f3a", first: 1, head: 14, messages });
      if (more === "presence") return ok({ count: 3, users: users.slice(0, 3).map(({ user, name }) => ({ user, name, state: "online" })) });
      if (more === "members") return ok({ members: users.slice(0, 3).map(({ user }, index) => ({ user, role: index === 0 ? "owner" : null, muted: false, since: now - index * DAY })) });
      return ok({ token: "none", expires_at: now + HOUR, user: "admin:ada" });
    case "hooks":
      return ok({
        node: "a",
        hooks: (one.settings.hooks ?? []).map((hook, index) => ({ name: hook.name, url: hook.url, events: hook.events ?? [], asks: hook.asks ?? [], breaker: index === 0 ? "closed" : "open", waiting: index * 412, oldest: index === 0 ? null : now - 5 * 60_000, given_up: index === 0 ? [] : [{ id: "e1", at: now - HOUR, attempts: 100, what: "connected: user ann", why: "status 500" }], last_error: index === 0 ? null : { at: now - 30_000, message: "status 500" } })),
      });
    case "files":
      return ok({ files: [["f1", "price list 2026, with a rather long name.pdf", "application/pdf", 482_113], ["f2", "screen.png", "image/png", 92_001]].map(([file, name, type, size], index) => ({ file, name, type, size, channel: "chat:hello", by: "ann", at: now - index * DAY, thumbnail: false })) });
  }
  return undefined;
}
