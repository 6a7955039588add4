import type * as Is from "./contract.ts";
import { ROOT, request } from "./session.ts";

type Signal = AbortSignal | undefined;

const get = <T>(path: string, signal?: Signal) => request<T>("GET", path, undefined, { signal });

const of = (app: string, ...rest: string[]): string => `/apps/${[app, ...rest].map(encodeURIComponent).join("/")}`;

/** A query without what is not given. */
function query(fields: Record<string, string | number | undefined>): string {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== "");
  return given.length === 0 ? "" : `?${new URLSearchParams(given.map(([key, value]) => [key, String(value)]))}`;
}

// Apps

export const appList = async () => (await get<{ apps: Is.Summary[] }>("/apps")).apps;
export const app = (app: string, signal?: Signal) => get<Is.App>(of(app), signal);
export const snippets = (app: string, url: string, signal: Signal) => get<Is.Snippets>(of(app, "snippets") + query({ url }), signal);
export const createApp = (app: string, settings: Partial<Is.Settings>) =>
  request<{ app: Is.App; key?: { id: string; algorithm: string; secret: string } }>("POST", "/apps", { app, settings });
export const changeApp = (app: string, part: Partial<Is.Settings>, revision: number) => request<Is.App>("PATCH", of(app), part, { revision });
export const putRules = (app: string, rules: readonly Is.Rule[], revision: number) => request<Is.App>("PUT", of(app, "rules"), { rules }, { revision });
export const putOrigins = (app: string, origins: readonly string[], revision: number) => request<Is.App>("PUT", of(app, "origins"), { origins }, { revision });
export const deleteApp = (app: string, revision: number) => request<{ reverted_to_file: boolean }>("DELETE", of(app), undefined, { revision });
export const testRule = (app: string, asked: { channel: string; user?: string; rules: readonly Is.Rule[] }, signal: Signal) =>
  request<Is.Verdict>("POST", of(app, "rules", "test"), asked, { signal });
export const versions = (app: string, after: string | undefined, signal: Signal) =>
  get<{ versions: Is.Version[]; after?: string }>(of(app, "versions") + query({ after, limit: 20 }), signal);
export const version = (app: string, revision: number, signal?: Signal) => get<{ settings: Is.Settings }>(of(app, "versions", String(revision)), signal);
export const restore = (app: string, to: number, revision: number) => request<Is.App>("POST", of(app, "versions", String(to), "restore"), {}, { revision });

// Keys

export const signingKeys = (app: string, signal: Signal) => get<{ revision: number; jwks_url?: string; keys: Is.SigningKey[] }>(of(app, "signing-keys"), signal);
export const addSigningKey = (app: string, key: { id?: string; algorithm: Is.Algorithm; public_key?: string }, revision: number) =>
  request<{ key: Is.SigningKey; secret?: string }>("POST", of(app, "signing-keys"), key, { revision });
export const removeSigningKey = (app: string, id: string, revision: number) => request<Is.App>("DELETE", of(app, "signing-keys", id), undefined, { revision });
export const apiKeys = async (app: string, signal?: Signal) => (await get<{ keys: Is.ApiKey[] }>(of(app, "api-keys"), signal)).keys;
export const createApiKey = (app: string, key: { name?: string; scopes: readonly Is.Scope[] }) => request<{ api_key: Is.ApiKey; secret: string }>("POST", of(app, "api-keys"), key);
export const rotateApiKey = (app: string, id: string) => request<{ api_key: Is.ApiKey; secret: string }>("POST", of(app, "api-keys", id, "rotate"), {});
export const revokeApiKey = (app: string, id: string) => request("DELETE", of(app, "api-keys", id));

// Users

export const users = (app: string, search: string, after: string | undefined, signal: Signal) =>
  get<{ users: Is.User[]; after?: string }>(of(app, "users") + query({ search, after, limit: 50 }), signal);
export const user = (app: string, user: string, signal: Signal) => get<Is.UserMore>(of(app, "users", user), signal);
export const createUser = (app: string, fields: { user: string; name?: string; password?: string; roles?: readonly string[] }) => request<Is.User>("POST", of(app, "users"), fields);
export const changeUser = (app: string, user: string, fields: { name?: string | null; roles?: readonly string[]; password?: string; banned?: boolean }) =>
  request<Is.User>("PATCH", of(app, "users", user), fields);
export const revokeUser = (app: string, user: string, device?: string) => request("POST", of(app, "users", user, "revoke"), device ? { device } : {});
export const eraseUser = (app: string, user: string) => request("DELETE", of(app, "users", user));
export const conversations = async (app: string, user: string, signal: Signal) => (await get<{ channels: Is.Conversation[] }>(of(app, "users", user, "channels"), signal)).channels;

// Channels

export const channels = (app: string, prefix: string, after: string | undefined, signal: Signal) =>
  get<{ channels: Is.Live[]; after?: string }>(of(app, "channels") + query({ prefix, after, limit: 100 }), signal);
export const channel = (app: string, channel: string, signal: Signal) => get<Is.ChannelMore>(of(app, "channels", channel), signal);
export const history = (app: string, channel: string, before: number | undefined, signal?: Signal) =>
  get<Is.HistoryPage>(of(app, "channels", channel, "messages") + query({ before, limit: 50 }), signal);
export const publish = (app: string, channel: string, message: { event?: string; data: unknown; id: string }) =>
  request<{ seq?: number }>("POST", of(app, "channels", channel, "messages"), message);
export const deleteMessage = (app: string, channel: string, seq: number) => request("DELETE", of(app, "channels", channel, "messages", String(seq)));
export const presence = (app: string, channel: string, signal: Signal) => get<{ count: number; users: Is.Present[]; more?: boolean }>(of(app, "channels", channel, "presence"), signal);
export const members = (app: string, channel: string, signal: Signal) => get<{ members: Is.Member[]; after?: string }>(of(app, "channels", channel, "members") + query({ limit: 100 }), signal);
export const changeMembers = (app: string, channel: string, change: { add?: readonly string[]; remove?: readonly string[]; role?: string }) =>
  request("POST", of(app, "channels", channel, "members"), change);
export const ticket = (app: string, channel: string) => request<Is.Ticket>("POST", of(app, "channels", channel, "tail"), {});

// Files, hooks

export const files = (app: string, filter: { name: string; channel: string; user: string; type: string }, after: string | undefined, signal: Signal) =>
  get<{ files: Is.StoredFile[]; after?: string }>(of(app, "files") + query({ ...filter, after }), signal);
/** Where a file's bytes are, for whoever is signed in. */
export const fileUrl = (app: string, file: string, part: "content" | "thumbnail") => `${ROOT}${of(app, "files", file, part)}`;
export const deleteFile = (app: string, file: string) => request("DELETE", of(app, "files", file));
export const hooks = async (app: string, signal: Signal) => (await get<{ hooks: Is.HookState[] }>(of(app, "hooks"), signal)).hooks;
export const testHook = (app: string, name: string) => request<{ ok: boolean; status?: number; ms: number; error?: string }>("POST", of(app, "hooks", name, "test"), {});

// What goes on

export const stats = (signal: Signal) => get<Is.Stats>("/stats", signal);
export const nodes = (signal: Signal) => get<Is.Nodes>("/nodes", signal);
export const audit = (filter: { app?: string; by?: string; what?: string; after?: string; limit?: number }, signal: Signal) =>
  get<{ entries: Is.Entry[]; after?: string }>(`/audit${query(filter)}`, signal);
