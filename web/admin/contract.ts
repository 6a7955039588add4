/** What `/api/v1/admin` says and takes: docs/administration.md. Times are ms since 1970. */

export type Who = string | readonly string[];

export interface Keep {
  count?: number;
  /** Bytes, or "4MB". */
  bytes?: number | string;
  /** "365d". */
  age?: string;
}

/** A rule, in the language of the configuration. */
export interface Rule {
  channels: string;
  history?: "none" | "recent" | "durable";
  keep?: Keep;
  presence?: boolean;
  notify?: boolean;
  search?: boolean;
  members?: boolean;
  subscribe?: Who;
  publish?: Who;
  read_history?: Who;
  see_presence?: Who;
  moderate?: Who;
  invite?: Who;
  create?: Who;
}

/** As a rule begins. */
export const NEW_RULE: Rule = {
  channels: "",
  history: "durable",
  presence: true,
  notify: false,
  subscribe: "anyone",
  publish: "anyone",
  read_history: "anyone",
  see_presence: "anyone",
  moderate: [],
};

export type Algorithm = "HS256" | "RS256" | "ES256" | "EdDSA";

export interface SigningKey {
  id: string;
  algorithm: Algorithm;
  created_at?: number | null;
}

/** Secrets are given, and never told; one that is not given stays. */
export interface Hook {
  name: string;
  url: string;
  secret?: string;
  previous_secret?: string;
  events?: readonly string[];
  asks?: readonly string[];
  channels?: readonly string[];
  timeout?: string;
  concurrency?: number;
  on_failure?: "refuse" | "allow";
}

export interface Provider {
  name: string;
  issuer: string;
  client_id: string;
  client_secret?: string;
  return_to?: readonly string[];
}

export interface Call {
  event: string;
  channel: string;
  echo?: boolean;
  join?: boolean;
}

export interface Limits {
  events_per_second?: number;
  channels_per_connection?: number;
  payload?: number | string;
  files?: number | string;
}

export type Accounts = "off" | "invited" | "open";

/** An app's settings, in the language of the configuration. */
export interface Settings {
  guests: boolean;
  accounts: Accounts;
  origins: readonly string[];
  recovery: boolean;
  jwks_url?: string | null;
  limits?: Limits;
  rules: readonly Rule[];
  keys?: readonly SigningKey[];
  oidc?: readonly Provider[];
  hooks?: readonly Hook[];
  calls?: readonly Call[];
}

export interface Changed {
  at: number;
  by: string;
  /** What an API key is called. */
  name?: string;
  via: Via;
  note?: string;
}

export type Via = "page" | "api" | "key" | "cli" | "server";

export interface App {
  app: string;
  from: "live" | "file";
  in_file: boolean;
  /** 0: as the file has it. */
  revision: number;
  changed?: Changed;
  settings: Settings;
}

export interface Summary {
  app: string;
  from: "live" | "file";
  in_file: boolean;
  revision: number;
  changed?: Changed;
  guests: boolean;
  accounts: Accounts;
  rules: number;
  keys: number;
  hooks: number;
  users: number;
  connections: number;
}

export interface Complaint {
  /** `rules.2.history`, or empty. */
  path: string;
  message: string;
}

export interface Me {
  user: string;
  name?: string | null;
  via: "cookie" | "token" | "key";
  app?: string;
  expires_at?: number;
  version: string;
  node: string;
  features: readonly string[];
}

export interface Verdict {
  channel: string;
  draft: boolean;
  /** Without it no rule covers the channel. */
  rule?: { index: number; channels: string; shadowed: readonly { index: number; channels: string }[] };
  settings?: readonly { name: string; value: unknown; reason: string }[];
  everyone?: Record<string, { who: readonly string[]; text: string }>;
  user?: {
    user: string;
    roles: readonly string[];
    member?: { role: string | null };
    may: readonly { action: string; allowed: boolean; reason: string }[];
  };
}

export interface Version {
  revision: number;
  current: boolean;
  changed?: Changed;
  what: readonly string[];
}

export type Scope = "publish" | "read" | "users" | "admin";

export interface ApiKey {
  id: string;
  name: string | null;
  scopes: readonly Scope[];
  created_at: number | null;
  rotated_at: number | null;
  expires_at: number | null;
  revoked_at: number | null;
  used_at: number | null;
}

export interface User {
  user: string;
  name?: string | null;
  roles: readonly string[];
  info?: unknown;
  /** Has a password. */
  account: boolean;
  banned: boolean;
  created_at?: number | null;
  tokens_valid_from?: number | null;
}

export interface Device {
  device: string;
  name?: string | null;
  platform?: string | null;
  created_at?: number | null;
  seen_at?: number | null;
}

export interface UserMore extends User {
  status?: { state: string; seen_at?: number | null };
  devices: readonly Device[];
  logins: number;
}

export interface Conversation {
  channel: string;
  seq: number;
  read: number;
  unread: number;
  active_at: number;
}

export interface Live {
  channel: string;
  subscribers: number;
  rule: number | null;
}

export interface ChannelMore {
  channel: string;
  rule: { index: number; channels: string } | null;
  history: "none" | "recent" | "durable" | null;
  presence: boolean;
  members: boolean;
  subscribers: number;
  head?: number;
  first?: number;
  epoch?: string;
  present?: number;
}

export interface Message {
  channel: string;
  epoch?: string;
  seq?: number;
  id: string;
  event: string;
  data: unknown;
  from: { user: string; name?: string };
  at: number;
  /** Of an edit or a deletion: what it changes. */
  target?: number;
  edited?: { seq: number; at: number };
  deleted?: { seq: number; at: number };
}

export interface HistoryPage {
  epoch: string;
  first: number;
  head: number;
  messages: readonly Message[];
}

export interface Present {
  user: string;
  name?: string;
  state?: string;
}

export interface Member {
  user: string;
  role: string | null;
  muted: boolean;
  since: number;
}

/** What opens one channel for this page, to listen. */
export interface Ticket {
  token: string;
  expires_at: number;
  user: string;
}

export interface StoredFile {
  file: string;
  channel: string;
  name: string;
  type: string;
  size: number;
  by: string;
  at: number;
  expires_at?: number | null;
  /** Of an image, in pixels. */
  width?: number;
  height?: number;
  /** Whether there is one. */
  thumbnail: boolean;
}

export interface HookState {
  name: string;
  url: string;
  events: readonly string[];
  asks: readonly string[];
  breaker: "closed" | "open" | "trying";
  waiting: number;
  oldest?: number | null;
  given_up: readonly { id: string; at: number; attempts: number; what: string; why: string }[];
  last_error?: { at: number; message: string } | null;
}

/** Over all servers that have answered. */
export interface Stats extends Counters {
  node: string;
  at: number;
  started_at: number;
  users: Record<string, number>;
  connections_by_app: Record<string, number>;
  nodes: readonly ({ node: string; name: string } & Counters)[];
  /** Names of servers that did not answer in time. */
  missing: readonly string[];
}

export interface Counters {
  connections: number;
  commands: number;
  published: number;
  delivered: number;
  refused: number;
}

export interface Nodes {
  standing: "live" | "frozen" | "expired";
  /** The server that answers is the one that plans the ring. */
  planning?: boolean;
  nodes: readonly Node[];
}

export interface Node {
  node: string;
  name?: string | null;
  url?: string | null;
  version?: string | null;
  roles: readonly string[];
  since?: number | null;
  connections?: number | null;
  channels?: number | null;
  lag_ms?: number | null;
  draining: boolean;
  /** Of the channels' ring, 0 to 1. */
  share?: number | null;
  self: boolean;
}

export interface Entry {
  id: string;
  at: number;
  by: string;
  /** What an API key is called. */
  name?: string;
  via: Via;
  app?: string | null;
  what: string;
  target?: string | null;
  before?: unknown;
  after?: unknown;
  outcome: "done" | "begun" | "refused";
  code?: string | null;
  note?: string | null;
  address?: string | null;
}

/** A language or program, and what is copied: each a file, or what is typed into a terminal. */
export interface Language {
  key: string;
  title: string;
  files: readonly { name: string; text: string }[];
}

export interface Snippets {
  url: string;
  app: string;
  channel: string;
  clients: readonly Language[];
  back_ends: readonly Language[];
}
