/**
 * The shapes of docs/protocol.md: what goes over the wire, and nothing else.
 */

/** Anything JSON can say; on Socket.IO also `ArrayBuffer` and typed arrays anywhere inside. */
export type Data = unknown;

/** A place in a channel's history. `seq` counts 1, 2, 3 … without holes as long as `epoch` stays the same. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** Somebody, as others see them. */
export interface Person {
  readonly user: string;
  readonly name?: string;
}

/** What a client says about itself when it connects. Every field is optional where guests are welcome. */
export interface Credentials {
  /** The app; the server's default when absent. */
  app?: string;
  /** A connection token (JWT). With one, `name` and `guest` mean nothing. */
  token?: string;
  /** Display name, 1 to 64 characters. */
  name?: string;
  /** A secret of 16 to 128 characters: the same secret is the same guest user. */
  guest?: string;
  /** 1 to 64 characters; tells apart the devices of one user. */
  device?: string;
}

/** When the same thing may be tried again: never, at once, with back-off, or on a new connection. */
export type Retry = "no" | "now" | "later" | "reconnect";

/** An error as the server sends it; `code` is stable, `message` is for people. */
export interface ErrorBody {
  readonly code: string;
  readonly message: string;
  readonly retry: Retry;
}

/** The one argument of every ack. */
export type Answer<Ok = unknown> = { readonly ok: Ok } | { readonly error: ErrorBody };

/** Push `welcome`: who we are on this connection, and which node we are on. */
export interface Welcome extends Person {
  readonly app: string;
  readonly node: string;
  readonly guest: boolean;
  readonly device?: string;
  /** How many commands a second the server takes on this connection, with bursts of twice as many; 0: any number. */
  readonly rate?: number;
  /** When the token ends, in ms since 1970. */
  readonly expires_at?: number;
}

/** The newest edit of a message, or its deletion: its own place, and when, in ms since 1970. */
export interface Revision {
  readonly seq: number;
  readonly at: number;
}

/** Push `message`. `epoch` and `seq` are there in channels with history; `at` is in ms since 1970. */
export interface Message {
  readonly channel: string;
  readonly epoch?: string;
  readonly seq?: number;
  readonly id: string;
  readonly event: string;
  /** `null` once it is deleted. */
  readonly data: Data;
  /** Where `data` is text only (answers of `history`): its binary parts, as base64. */
  readonly attachments?: readonly string[];
  readonly from: Person;
  readonly at: number;
  /** Not counted as unread, notifies nobody. */
  readonly silent?: boolean;
  /** `data` are those of this edit already. */
  readonly edited?: Revision;
  readonly deleted?: Revision;
}

/** Push `edit`: new data for the message at `target`. It takes a place of its own. */
export interface Edit extends Position {
  readonly channel: string;
  readonly target: number;
  readonly id: string;
  readonly data: Data;
  readonly attachments?: readonly string[];
  readonly from: Person;
  readonly at: number;
}

/** Push `delete`: the message at `target` is withdrawn. */
export interface Deletion extends Position {
  readonly channel: string;
  readonly target: number;
  readonly id: string;
  readonly from: Person;
  readonly at: number;
}

/** A message that was found, and pieces of its text, of which every second one is what was looked for. */
export interface SearchHit {
  readonly message: Message;
  readonly excerpt: readonly string[];
}

/** `ok` of `search`. With `before` there may be more behind it; a page may have few hits, or none, and go on nevertheless. */
export interface SearchPage {
  readonly hits: readonly SearchHit[];
  readonly before?: string;
}

/** Pushes `read` and `delivered`: how far a user is. */
export interface Receipt {
  readonly channel: string;
  readonly user: string;
  readonly seq: number;
}

/** How far a user is in a channel; 0 before the first message. */
export interface Progress {
  readonly read: number;
  readonly delivered: number;
}

/** `ok` of `read` and `delivered`: one's own marker as it stands now. */
export interface Marker extends Progress {
  readonly channel: string;
  readonly unread: number;
}

/** Push `notification`: news in a channel of ours that is not followed on this connection. */
export interface Notification {
  readonly channel: string;
  readonly unread: number;
  readonly message: Message;
}

/** Push `signal`: never stored, has no position. */
export interface Signal {
  readonly channel: string;
  readonly event: string;
  readonly data: Data;
  readonly from: Person;
  readonly at: number;
  /** For how long it holds, in ms; 0: it ends now. */
  readonly ttl?: number;
}

/** Push `gap`: messages up to and with `seq` cannot be had any more; the live stream goes on behind it. */
export interface Skipped extends Position {
  readonly channel: string;
}

/** Push `presence`. `count` counts users, not connections. With `users` (at most 100) it says all anew; with `unknown`, that nobody can tell at the moment. */
export interface PresenceChange {
  readonly channel: string;
  readonly count?: number;
  readonly users?: readonly Person[];
  readonly more?: boolean;
  readonly unknown?: boolean;
  readonly joined?: readonly Person[];
  readonly left?: readonly Person[];
}

/** Push `moved`: reconnect within that time, to `url` or to the same address. */
export interface Moved {
  readonly within_ms: number;
  readonly url?: string;
}

/** `ok` of `subscribe`. */
export interface Subscribed {
  readonly channel: string;
  readonly history: boolean;
  readonly epoch?: string;
  readonly seq?: number;
  readonly recovered?: boolean;
  readonly missed?: number;
  /** One's own marker, in durable channels. */
  readonly read?: number;
  readonly delivered?: number;
  readonly unread?: number;
  readonly presence?: { readonly count: number; readonly users: readonly Person[] };
  readonly receipts?: readonly (Progress & { readonly user: string })[];
}

/** `ok` of `publish`. */
export interface Published {
  readonly channel: string;
  readonly id: string;
  readonly epoch?: string;
  readonly seq?: number;
  readonly at: number;
}

/** `ok` of `edit` and `delete`; `seq` is the change's own place. */
export interface Changed extends Position {
  readonly channel: string;
  readonly id: string;
  readonly target: number;
  readonly at: number;
}

/** `ok` of `history`: what is in those slots, ascending; edits and deletions are told by their `target`. */
export interface HistorySlots extends HistoryBounds {
  readonly messages: readonly (Message | Edit | Deletion)[];
}

/** A page of history, sorted out. */
export interface HistoryPage extends HistoryBounds {
  /** Ascending; edits and deletions, those of later pages too, are folded into their targets. */
  readonly messages: readonly Message[];
  /** The edits and deletions that have their own places in this page, perhaps of messages in others; ascending. */
  readonly changes: readonly (Edit | Deletion)[];
}

/** Of which history a page is, the oldest seq that is still kept, and the newest. */
interface HistoryBounds {
  readonly channel: string;
  readonly epoch: string;
  readonly first: number;
  readonly head: number;
}

/** One who is in a channel; with state and devices where these may be known. */
export interface Present extends Person {
  readonly state?: Status["state"];
  readonly devices?: Status["devices"];
}

/** `ok` of `presence`: at most 100 users; `more` says that there are others. */
export interface PresenceList {
  readonly channel: string;
  readonly count: number;
  readonly users: readonly Present[];
  readonly more?: boolean;
}

/** One of one's own channels at a glance. */
export interface Conversation extends Marker, Position {
  readonly last?: Message;
  /** When its newest message came, in ms since 1970. */
  readonly active_at: number;
}

/** `ok` of `channels`: those active last first; `after` goes on where the page ends. */
export interface Conversations {
  readonly channels: readonly Conversation[];
  readonly after?: string;
}

/** One who belongs to a channel; a plain member has no role. */
export interface Member {
  readonly user: string;
  readonly role?: string;
}

/** How a user is seen. */
export interface Status {
  readonly user: string;
  readonly state: "online" | "away" | "offline";
  readonly last_seen?: number;
  /** Those that it is connected with. */
  readonly devices?: readonly { readonly device: string; readonly state: "online" | "away" }[];
}

/** Every push of the server by its name. */
export const PUSHES = [
  "welcome",
  "message",
  "edit",
  "delete",
  "read",
  "delivered",
  "notification",
  "unsubscribed",
  "token_expiring",
  "signal",
  "gap",
  "presence",
  "rejected",
  "closing",
  "moved",
] as const;

/**
 * An {@link ErrorBody} that can be thrown; also the client's own errors (`timeout`, `disconnected`, `queue_full`, `closed`,
 * `no_token`, `signed_out`).
 */
export class XpushError extends Error implements ErrorBody {
  override readonly name = "XpushError";
  readonly code: string;
  readonly retry: Retry;

  constructor(code: string, message: string, retry: Retry) {
    super(message);
    this.code = code;
    this.retry = retry;
  }

  /** The error that an answer carries. */
  static from(body: ErrorBody): XpushError {
    return body instanceof XpushError ? body : new XpushError(body.code, body.message, body.retry);
  }
}

/** A message id: 128 random bits. Not `crypto.randomUUID`, which pages on plain http do not have. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
