import { sessionServer, type Assign } from "./assign.ts";
import { backoffDelay, type Backoff } from "./backoff.ts";
import { Channel, type PublishOptions, type Stats } from "./channel.ts";
import { Dial } from "./dial.ts";
import { Emitter } from "./emitter.ts";
import { Files, type FileReference, type StoredFile, type UploadOptions } from "./files.ts";
import { guestSecret, localGuestStorage, type GuestStorage } from "./guest.ts";
import { openSocketIo, type Link, type LinkEvents, type OpenLink } from "./link.ts";
import { Outbox, type Carrier } from "./outbox.ts";
import {
  newId,
  XpushError,
  type Answer,
  type Conversations,
  type Credentials,
  type Data,
  type Deletion,
  type Edit,
  type ErrorBody,
  type Message,
  type Moved,
  type Notification,
  type PresenceChange,
  type Published,
  type SearchPage,
  type Receipt,
  type Signal,
  type Skipped,
  type Status,
  type Welcome,
} from "./protocol.ts";
import { Showing, type Shown } from "./shown.ts";
import { takeToken, type TokenReason, type TokenSource } from "./token.ts";

/** How a client connects; everything may be left out. */
export interface ClientOptions extends Omit<Credentials, "token"> {
  /** Who we are; a function is called for each connection, and again before the token that it gave expires. */
  token?: TokenSource;
  /** Where the guest secret is kept when `guest` is not given: default `localStorage`; `null`: nowhere. */
  storage?: GuestStorage | null;
  /** How long a command may stay unanswered, in ms; default 10,000. */
  ackTimeout?: number;
  /** How many publishes may wait in one channel; default 256. */
  queueLimit?: number;
  /** Bounds of the time between attempts to connect, in ms; default 250 to 10,000. */
  backoff?: Backoff;
  /**
   * The address is a session server's, which names the channel server to use; asked for each connection, so that another one
   * takes the place of one that is gone. A function asks in another way.
   */
  assign?: boolean | Assign;
  /** How connections are made; default over Socket.IO. */
  open?: OpenLink;
}

/** Where the connection stands. */
export type State =
  | { readonly status: "connecting"; readonly attempt: number }
  | { readonly status: "online"; readonly transport: string }
  /** The next attempt is at `retryAt`, in ms since 1970. */
  | { readonly status: "waiting"; readonly attempt: number; readonly retryAt: number; readonly error: XpushError }
  /** By {@link Client.pause}: everything is kept, nothing is tried. */
  | { readonly status: "paused" }
  /** For good: by {@link Client.close} (no error), or because the server refuses us. */
  | { readonly status: "closed"; readonly error?: XpushError };

/** What a client tells. */
export interface ClientEvents {
  state: State;
  /** What a person is to be told of the connection; it changes less often than `state`. */
  connection: Shown;
  welcome: Welcome;
  /** A command without an ack failed. This client asks for acks always; another part of the app may not. */
  rejected: { readonly cmd: string; readonly error: ErrorBody };
  /** The server is about to close the connection, and why. */
  closing: XpushError;
  /** The server asked us to come again; the client does so by itself. */
  moved: Moved;
  /** News in a channel of ours that this client does not follow. */
  notification: Notification;
  /** Somebody's marker has moved, perhaps our own on another device, in whatever channel. */
  read: Receipt;
  delivered: Receipt;
  /** The server has ended a subscription for good. */
  unsubscribed: { readonly channel: string; readonly error: XpushError };
  /** The token ends then, in ms since 1970. A client whose `token` is a function renews it by itself; else see {@link Client.refresh}. */
  token_expiring: { readonly expires_at: number };
}

/** Options of {@link Client.publishTo}. */
export interface PublishToOptions extends Omit<PublishOptions, "echo"> {
  /** Only on this device. */
  device?: string;
}

const ACK_TIMEOUT = 10_000;
const QUEUE_LIMIT = 256;
const BACKOFF: Backoff = { min: 250, max: 10_000 };

/** The server may accept a connection and never answer it. */
const CONNECT_TIMEOUT = 15_000;

/** How long a new connection may take to bring everything, before the one that it replaces is given up in any case. */
const MOVE_TIMEOUT = 5_000;

/** How long answers that are still to come by the old connection are waited for; what they answer goes again, by the same id. */
const LAST_ANSWERS = 1_000;

/** A connection that lived this long was a good one: its loss starts the back-off anew. */
const STABLE_AFTER = 5_000;

/** A connection that is to replace the present one. */
interface Move {
  readonly link: Dial;
  /** Once it is up. */
  transport?: string;
  /** The channels that are heard there already. */
  readonly moved: Set<string>;
  /** Commands, and outboxes, that wait until the old connection owes no more answers; undefined before. */
  held?: (() => void)[];
  timer?: ReturnType<typeof setTimeout>;
}

/** Pushes that belong to a subscription, and come by the connection that has it. */
const OF_CHANNELS: ReadonlySet<string> = new Set(["message", "edit", "delete", "read", "delivered", "unsubscribed", "signal", "gap", "presence"]);

/** A connection to an XPUSH server that is made again whenever it is lost. */
export class Client extends Emitter<ClientEvents> {
  readonly stats: Stats = { missed: 0, recovered: 0 };
  readonly #home: string;
  readonly #credentials: Credentials;
  readonly #token: TokenSource | undefined;
  readonly #open: OpenLink;
  readonly #assign: Assign | undefined;
  readonly #ackTimeout: number;
  readonly #queueLimit: number;
  readonly #backoff: Backoff;
  readonly #channels = new Map<string, Channel>();
  /** Publishes to users, by user and device. */
  readonly #outboxes = new Map<string, Outbox>();
  readonly #carrier: Carrier;
  readonly #files: Files;
  #tokenReason: TokenReason = "connect";
  /** What {@link Client.status} said of us: the next connection is told, too. */
  #ownState: "online" | "away" = "online";
  /** The address that a server has told us to go to. */
  #url: string | undefined;
  /** What we were assigned last, and whether nobody has answered there. */
  #assigned: string | undefined;
  #unreached: string | undefined;
  #state: State = { status: "paused" };
  readonly #showing = new Showing((shown) => this.emit("connection", shown));
  #welcome: Welcome | undefined;
  #link: Dial | undefined;
  /** Commands that `#link` has still to answer. */
  #underWay = 0;
  #move: Move | undefined;
  /** How many moves in a row have come to nothing. */
  #moves = 0;
  #attempt = 0;
  #upSince = 0;
  /** Why the server said that it would close this connection. */
  #closing: XpushError | undefined;
  /** The one thing that is planned: the next attempt, the move, or giving up on an attempt. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string, options: ClientOptions = {}) {
    super();
    const { storage = localGuestStorage(), ackTimeout, queueLimit, backoff, open, assign, token, ...credentials } = options;
    this.#home = url;
    this.#token = token;
    this.#credentials = { ...credentials, guest: credentials.guest ?? guestSecret(storage) };
    this.#open = open ?? openSocketIo;
    this.#assign = assign === true ? sessionServer() : assign || undefined;
    this.#ackTimeout = ackTimeout ?? ACK_TIMEOUT;
    this.#queueLimit = queueLimit ?? QUEUE_LIMIT;
    this.#backoff = backoff ?? BACKOFF;
    const client = this;
    this.#carrier = {
      get online() {
        return client.#state.status === "online";
      },
      get user() {
        return client.#welcome?.user;
      },
      get link() {
        return client.#link;
      },
      ready: (again) => this.#ready(again),
      command: (name, fields, done) => this.#command(name, fields, done),
      reconnect: () => this.#reconnect(),
    };
    this.#files = new Files({ home: url, app: credentials.app, authorization: () => this.#authorization() });
    this.#connect();
  }

  get state(): State {
    return this.#state;
  }

  /** The connection as a person is to be told of it: nothing that is over within 0.4 s, and one `reconnecting` over all attempts. */
  get connection(): Shown {
    return this.#showing.shown;
  }

  /** Who the server says we are; undefined until the first connection. */
  get welcome(): Welcome | undefined {
    return this.#welcome;
  }

  /** The channel of that name, always the same object. */
  channel(name: string): Channel {
    let channel = this.#channels.get(name);
    if (!channel) {
      const settings = { queueLimit: this.#queueLimit, backoff: this.#backoff, stats: this.stats };
      channel = new Channel(name, this.#carrier, settings);
      this.#channels.set(name, channel);
    }
    return channel;
  }

  /** The durable channels that are ours, those active last first; `after` is what the page before gave. */
  channels(page: { limit?: number; after?: string } = {}): Promise<Conversations> {
    return this.#request("channels", page);
  }

  /**
   * Messages that hold the words of `query` (docs/search.md), the newest first: in `channel`, or in the channels that we are in. `before` is what the page before gave. Of an excerpt every
   * second piece is what was found.
   */
  search(query: string, page: { channel?: string; limit?: number; before?: string } = {}): Promise<SearchPage> {
    return this.#request("search", { query, ...page });
  }

  /** How `users` are seen; with `state`, tells how we are, on this connection and those after it. */
  async status({ state, users }: { state?: "online" | "away"; users?: readonly string[] } = {}): Promise<readonly Status[]> {
    if (state) this.#ownState = state;
    const fields = { ...(state && { state }), ...(users && { users }) };
    return (await this.#request<{ readonly users: readonly Status[] }>("status", fields)).users;
  }

  /** Publishes into a user's own channel; waits and retries as {@link Channel.publish} does. */
  publishTo(user: string, data: Data, { device, id = newId(), ...options }: PublishToOptions = {}): Promise<Published> {
    const key = JSON.stringify([user, device]);
    let outbox = this.#outboxes.get(key);
    if (!outbox) this.#outboxes.set(key, (outbox = new Outbox(this.#carrier, this.#queueLimit, this.#backoff)));
    const fields = { user, ...(device !== undefined && { device }), data, ...options, id };
    return outbox.add({ command: "publish", fields });
  }

  /**
   * Uploads a file into a channel. Nobody is told of it: what comes back goes into a message as `data.file`.
   *
   * ```js
   * const file = await client.upload("chat:lobby", input.files[0], { onProgress: (sent, total) => (bar.value = sent / total) });
   * await client.channel("chat:lobby").publish({ text: "Look", file });
   * ```
   */
  upload(channel: string, file: Blob, options: UploadOptions = {}): Promise<StoredFile> {
    return this.#files.upload(channel, file, options);
  }

  /** Where a page finds a file, or an image's thumbnail: for `<img src>` and `<a href>`, for some minutes. */
  fileUrl(file: FileReference, { thumbnail = false }: { thumbnail?: boolean } = {}): Promise<string> {
    return this.#files.url(file, thumbnail);
  }

  /** Deletes a file: one's own, or as a moderator of its channel. */
  deleteFile(id: string): Promise<void> {
    return this.#files.delete(id);
  }

  /** The round trip of one command, in ms with fractions. */
  async ping(): Promise<number> {
    const start = performance.now();
    await this.#request("ping", {});
    return performance.now() - start;
  }

  /** Goes on with `token` on the present connection, for the same user; when the new one ends, in ms since 1970. */
  async refresh(token: string): Promise<number> {
    const there = this.#arrived;
    const refreshed = this.#request<{ readonly expires_at: number }>("refresh", { token });
    if (!there || there.held) return (await refreshed).expires_at;
    // Either connection may be the one that stays.
    refreshed.catch(() => undefined);
    return (await this.#refresh(there.link, token)).expires_at;
  }

  /** Takes another display name, which needs a new connection; nothing is missed meanwhile. */
  rename(name: string): void {
    this.#credentials.name = name;
    if (this.#link) this.#reconnect();
  }

  /** Tries now instead of at `retryAt`. */
  retryNow(): void {
    if (this.#state.status === "waiting") this.#connect();
  }

  /** Cuts the connection, as a lost network would; publishes wait, subscriptions resume after {@link resume}. */
  pause(): void {
    if (this.#state.status !== "closed" && this.#state.status !== "paused") this.#rest({ status: "paused" });
  }

  /** Connects again after {@link pause}. */
  resume(): void {
    if (this.#state.status === "paused") this.#reconnect();
  }

  /** Ends the connection; what still waits for an answer is rejected with `closed`. */
  close(): void {
    if (this.#state.status === "closed") return;
    this.#rest({ status: "closed" });
    this.#fail(new XpushError("closed", "the client was closed", "no"));
  }

  /** What requests beside the connection show. */
  async #authorization(): Promise<string> {
    const source = this.#token;
    const token = source === undefined ? undefined : await takeToken(source, "connect");
    return token === undefined ? `Guest ${this.#credentials.guest}` : `Bearer ${token}`;
  }

  #connect(): void {
    this.#closing = undefined;
    this.#leave({ status: "connecting", attempt: this.#attempt });
    this.#timer = setTimeout(() => {
      this.#down(new XpushError("timeout", "the server did not answer", "later"));
    }, CONNECT_TIMEOUT);
    this.#link = this.#dial();
    this.#stateIsTold();
  }

  /** Begins a connection to where we belong now. */
  #dial(): Dial {
    const { guest, name, ...shared } = this.#credentials;
    const source = this.#token;
    const assign = this.#assign;
    // Asked when the app has had its turn: by then it has named its channels.
    const ask =
      assign &&
      (async () => {
        await undefined;
        this.#assigned = await assign(this.#home, shared.app, [...this.#channels.keys()], this.#unreached);
        return this.#assigned;
      });
    const destination = {
      address: this.#url ?? ask ?? this.#home,
      token: typeof source === "function" ? () => takeToken(source, this.#tokenReason) : source,
      credentials: (token: string | undefined) => (token === undefined ? this.#credentials : { ...shared, token }),
    };
    const events: LinkEvents = {
      up: (transport) => (link === this.#link ? this.#up(transport) : link === this.#move?.link && this.#moveUp(this.#move, transport)),
      upgraded: (transport) => {
        if (link === this.#link) this.#setState({ status: "online", transport });
        else if (link === this.#move?.link) this.#move.transport = transport;
      },
      push: (name, body) => {
        if (this.#isHeard(link, name, body)) this.#push(link, name, body);
        if (name === "welcome") link.pace.told((body as Welcome).rate);
      },
      down: (error) => (link === this.#link ? this.#down(error) : link === this.#move?.link && this.#moveDown(this.#move)),
    };
    const link = new Dial(this.#open, destination, events);
    return link;
  }

  #reconnect(): void {
    this.#attempt = 0;
    this.#connect();
  }

  #up(transport: string): void {
    clearTimeout(this.#timer);
    this.#upSince = Date.now();
    this.#unreached = undefined;
    this.#tokenReason = "connect";
    this.#setState({ status: "online", transport });
    if (this.#ownState !== "online") this.status({ state: this.#ownState }).catch(() => undefined);
    for (const channel of this.#channels.values()) channel.connected();
    for (const outbox of this.#outboxes.values()) outbox.connected();
  }

  #down(lost: XpushError): void {
    if (this.#move?.transport !== undefined) return this.#endMove(this.#move);
    const error = this.#closing ?? lost;
    if (this.#state.status !== "online") {
      // The address that we were moved to may be gone; home, another node answers.
      if (this.#url === undefined) this.#unreached = this.#assigned;
      this.#url = undefined;
    } else if (Date.now() - this.#upSince >= STABLE_AFTER) {
      this.#attempt = 0;
    }
    const renewable = error.code === "token_expired" && typeof this.#token === "function";
    if (renewable) this.#tokenReason = "expired";
    if (error.retry === "no" && !renewable) {
      this.#rest({ status: "closed", error });
      this.#fail(error);
      return;
    }
    const delay = backoffDelay(this.#backoff, this.#attempt++);
    this.#leave({ status: "waiting", attempt: this.#attempt, retryAt: Date.now() + delay, error });
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#stateIsTold();
  }

  #rest(next: State): void {
    this.#leave(next);
    this.#stateIsTold();
  }

  /** Gives up the present link and what was planned. The state changes first: what the link still answers must see it. */
  #leave(next: State): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const link = this.#link;
    this.#link = undefined;
    this.#underWay = 0;
    this.#state = next;
    const held = this.#move?.held ?? [];
    this.#dropMove();
    link?.drop();
    for (const command of held) command();
  }

  #fail(error: XpushError): void {
    for (const channel of this.#channels.values()) channel.fail(error);
    for (const outbox of this.#outboxes.values()) outbox.fail(error);
  }

  #setState(state: State): void {
    this.#state = state;
    this.#stateIsTold();
  }

  #stateIsTold(): void {
    this.emit("state", this.#state);
    this.#showing.see(this.#state, this.#move !== undefined);
  }

  #push(link: Dial, name: string, body: unknown): void {
    switch (name) {
      case "message":
        return this.#channels.get((body as Message).channel)?.receiveMessage(body as Message);
      case "edit":
        return this.#channels.get((body as Edit).channel)?.receiveEdit(body as Edit);
      case "delete":
        return this.#channels.get((body as Deletion).channel)?.receiveDeletion(body as Deletion);
      case "read":
      case "delivered":
        this.#channels.get((body as Receipt).channel)?.receiveReceipt(name, body as Receipt);
        return this.emit(name, body as Receipt);
      case "notification":
        return this.emit(name, body as Notification);
      case "unsubscribed":
        return this.#unsubscribed(body as { channel: string; error: ErrorBody });
      case "token_expiring":
        this.emit(name, body as ClientEvents["token_expiring"]);
        return this.#renew(link, 0);
      case "signal":
        return this.#channels.get((body as Signal).channel)?.receiveSignal(body as Signal);
      case "gap":
        return this.#channels.get((body as Skipped).channel)?.receiveGap(body as Skipped);
      case "presence":
        return this.#channels.get((body as PresenceChange).channel)?.receivePresence(body as PresenceChange);
      case "welcome":
        this.#welcome = body as Welcome;
        return this.emit("welcome", this.#welcome);
      case "moved":
        this.#goElsewhere(body as Moved);
        return this.emit("moved", body as Moved);
      case "closing":
        this.#closing = XpushError.from((body as { error: ErrorBody }).error);
        return this.emit("closing", this.#closing);
      case "rejected":
        return this.emit("rejected", body as ClientEvents["rejected"]);
    }
  }

  #unsubscribed({ channel, error }: { channel: string; error: ErrorBody }): void {
    const goesOn = this.#channels.get(channel)?.receiveUnsubscribed(error);
    if (!goesOn) this.emit("unsubscribed", { channel, error: XpushError.from(error) });
  }

  /** Brings a new token on the same connection; when that fails for good, the connection ends at its time and the next one has a new token. */
  #renew(link: Dial, attempt: number): void {
    if (typeof this.#token !== "function") return;
    const lives = (): boolean => link === this.#link || link === this.#move?.link;
    takeToken(this.#token, "expiring")
      .then((token) => (lives() && token !== undefined ? this.#refresh(link, token) : undefined))
      .catch((error: XpushError) => {
        if (error.retry === "no" || !lives()) return;
        setTimeout(() => lives() && this.#renew(link, attempt + 1), backoffDelay(this.#backoff, attempt));
      });
  }

  #refresh(link: Dial, token: string): Promise<{ readonly expires_at: number }> {
    return answered((done) => link.request("refresh", { token }, this.#ackTimeout, done));
  }

  /** The server gives us a while; others are told too, so each goes at a time of its own. Half of it is left to get there. */
  #goElsewhere({ within_ms, url }: Moved): void {
    // At once: the server may close the connection before our time has come.
    this.#url = url || undefined;
    if (this.#move) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#beginMove(), (within_ms * Math.random()) / 2);
  }

  /** The new connection comes first; the present one goes when nothing is heard or answered by it alone any more. */
  #beginMove(): void {
    if (this.#state.status !== "online") return this.#reconnect();
    const move: Move = { link: this.#dial(), moved: new Set() };
    this.#move = move;
    this.#showing.see(this.#state, true);
    this.#planMove(move, CONNECT_TIMEOUT, () => this.#moveDown(move));
  }

  #planMove(move: Move, after: number, then: () => void): void {
    clearTimeout(move.timer);
    move.timer = setTimeout(() => move === this.#move && then(), after);
  }

  /** All that is followed here is followed there. */
  #moveUp(move: Move, transport: string): void {
    move.transport = transport;
    this.#planMove(move, MOVE_TIMEOUT, () => this.#endMove(move));
    for (const channel of this.#channels.values()) channel.subscribeAgain();
    this.#awaitAnswers(move);
  }

  /** The move whose new connection is up. */
  get #arrived(): Move | undefined {
    return this.#move?.transport === undefined ? undefined : this.#move;
  }

  /** As soon as the new connection is up, subscriptions are made there alone; with the answer the channel is heard there. */
  #subscribeThere(move: Move, fields: { readonly channel: string }, done: (answer: Answer) => void): void {
    move.link.request("subscribe", fields, this.#ackTimeout, (answer) => {
      // Of a move that came to nothing nobody hears: the channels have never left.
      if (move !== this.#move && move.link !== this.#link) return;
      if ("ok" in answer) move.moved.add(fields.channel);
      done(answer);
      this.#awaitAnswers(move);
    });
  }

  /**
   * Once all is heard there. What was asked here is answered here; new commands wait for the new connection, so that they stay in
   * order.
   */
  #awaitAnswers(move: Move): void {
    if (move !== this.#move || move.held) return;
    for (const [name, channel] of this.#channels) if (channel.wanted && !move.moved.has(name)) return;
    move.held = [];
    if (this.#underWay === 0) this.#endMove(move);
    else this.#planMove(move, LAST_ANSWERS, () => this.#endMove(move));
  }

  /** The new connection takes over. What is not heard there yet has a subscription under way there, or will ask for one. */
  #endMove(move: Move): void {
    if (move !== this.#move) return;
    const old = this.#link;
    clearTimeout(move.timer);
    this.#move = undefined;
    this.#link = move.link;
    this.#underWay = this.#attempt = this.#moves = 0;
    this.#upSince = Date.now();
    this.#closing = undefined;
    old?.drop();
    const { transport = "" } = move;
    if (this.#state.status === "online" && this.#state.transport !== transport) this.#setState({ status: "online", transport });
    this.#showing.see(this.#state, false);
    if (this.#ownState !== "online") this.status({ state: this.#ownState }).catch(() => undefined);
    for (const [name, channel] of this.#channels) if (!move.moved.has(name)) channel.cutOff();
    for (const command of move.held ?? []) command();
  }

  /** The new connection cannot be had: another one is tried as long as the present one lasts. */
  #moveDown(move: Move): void {
    this.#dropMove();
    this.#showing.see(this.#state, false);
    this.#url = undefined;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#beginMove(), backoffDelay(this.#backoff, this.#moves++));
    if (move.transport !== undefined) {
      for (const [name, channel] of this.#channels) {
        if (move.moved.has(name)) channel.cutOff();
        if (!channel.followed) channel.subscribeAgain();
      }
    }
    for (const command of move.held ?? []) command();
  }

  #dropMove(): void {
    const move = this.#move;
    this.#move = undefined;
    clearTimeout(move?.timer);
    move?.link.drop();
  }

  /** Whether a push comes by the connection that it belongs to. */
  #isHeard(link: Link, name: string, body: unknown): boolean {
    const move = this.#move;
    const moved = OF_CHANNELS.has(name) && move?.moved.has((body as { channel: string }).channel) === true;
    if (link === move?.link) return moved || name === "welcome" || name === "token_expiring";
    // While we go anyway, the old connection need not tell us to.
    return link === this.#link && !moved && !(move && (name === "moved" || name === "closing"));
  }

  #request<Ok>(name: string, fields: object): Promise<Ok> {
    return answered((done) => this.#command(name, fields, done));
  }

  /** Whether an outbox's entry may go now. */
  #ready(again: () => void): boolean {
    const held = this.#move?.held;
    if (!held) return this.#link?.pace.ready(again) ?? false;
    held.push(again);
    return false;
  }

  #command(name: string, fields: object, done: (answer: Answer) => void): void {
    const move = this.#arrived;
    if (move && name === "subscribe") return this.#subscribeThere(move, fields as { channel: string }, done);
    if (move && name === "unsubscribe") {
      // Both have it, perhaps; what the old one answers is the answer.
      move.link.request(name, fields, this.#ackTimeout, () => undefined);
    } else if (move?.held) {
      move.held.push(() => this.#command(name, fields, done));
      return;
    }
    const link = this.#link;
    if (!link || this.#state.status !== "online") {
      const error = new XpushError("disconnected", "there is no connection", "reconnect");
      queueMicrotask(() => done({ error }));
      return;
    }
    this.#underWay += 1;
    link.request(name, fields, this.#ackTimeout, (answer) => {
      if (link === this.#link) {
        this.#underWay -= 1;
        done(answer);
        if (this.#underWay === 0 && this.#move?.held) this.#endMove(this.#move);
      } else if ("error" in answer && answer.error.code === "disconnected" && this.#state.status === "online") {
        // Nothing is lost but the answer: there is another connection already.
        done({ error: new XpushError("moved", "the connection was replaced before the answer came", "now") });
      } else {
        done(answer);
      }
    });
    // It may have been the last that was waited for.
    if (move && name === "unsubscribe") this.#awaitAnswers(move);
  }
}

/** What the answer says, as a promise. */
function answered<Ok>(ask: (done: (answer: Answer) => void) => void): Promise<Ok> {
  return new Promise((resolve, reject) => {
    ask((answer) => {
      if ("ok" in answer) resolve(answer.ok as Ok);
      else reject(XpushError.from(answer.error));
    });
  });
}

/**
 * Connects to an XPUSH server.
 *
 * @param url the server's address; in a browser, the page's own when left out
 */
export function connect(url?: string, options?: ClientOptions): Client {
  const address = url ?? (typeof location === "undefined" ? undefined : location.origin);
  if (address === undefined) throw new TypeError("connect needs the server's address");
  return new Client(address, options);
}
