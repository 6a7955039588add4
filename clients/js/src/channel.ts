import { backoffDelay, type Backoff } from "./backoff.ts";
import { Deferred } from "./deferred.ts";
import { Emitter } from "./emitter.ts";
import { MarkerMover, type Mark } from "./marker.ts";
import { Outbox, type Carrier, type Entry } from "./outbox.ts";
import {
  newId,
  XpushError,
  type Answer,
  type Changed,
  type Data,
  type Deletion,
  type Edit,
  type ErrorBody,
  type HistoryPage,
  type HistorySlots,
  type Marker,
  type Member,
  type Message,
  type Person,
  type Position,
  type PresenceChange,
  type PresenceList,
  type Progress,
  type Published,
  type Receipt,
  type Signal,
  type Skipped,
  type Subscribed,
} from "./protocol.ts";
import { takeToken, type TokenReason, type TokenSource } from "./token.ts";
import { Typists } from "./typing.ts";

/** What happened while we were away came back whole. */
export interface Recovered {
  readonly channel: string;
  /** How many messages the channel had taken meanwhile, as the server counted them. */
  readonly missed: number;
  /** How many of them arrived here. */
  readonly recovered: number;
}

/**
 * The stream goes on, but not from where it stopped: the history no longer reaches back so far, or it was lost and another
 * epoch began. An app that shows history should fetch it again.
 */
export interface Gap {
  readonly channel: string;
  /** The last position that was seen. */
  readonly from: Position;
  /** The newest position that the server knows of. */
  readonly to: Position;
  /** How many messages were left out; unknown when the epoch changed. */
  readonly lost?: number;
}

/** Who is in the channel; `users` is what we know of them (at most 100 at the start, and who joined since). */
export interface Presence {
  readonly count: number;
  readonly users: readonly Person[];
  /** Nobody can tell at the moment: this is what was known last. */
  readonly unknown?: boolean;
}

/** What a channel tells. */
export interface ChannelEvents {
  message: Message;
  /** A message has new data; in the channel's order, as messages are. */
  edit: Edit;
  /** A message is withdrawn; in the channel's order, as messages are. */
  delete: Deletion;
  /** Somebody has read up to there: a member, when subscribed with `receipts`; in any case we ourselves on another device. */
  read: Receipt;
  delivered: Receipt;
  signal: Signal;
  /** Who is typing now. */
  typing: readonly Person[];
  presence: Presence;
  subscribed: Subscribed;
  recovered: Recovered;
  gap: Gap;
  /** The server refuses the subscription for good. */
  refused: XpushError;
  /** The server has ended the subscription for good: a permission is gone, or we are a member no more. */
  unsubscribed: XpushError;
}

/** Options of {@link Channel.subscribe}. */
export interface SubscribeOptions {
  /** Also tell who is there. */
  presence?: boolean;
  /** Also tell how far the others are. */
  receipts?: boolean;
  /** Resume from here, for instance from where an earlier run of the app stopped. */
  since?: Position;
  /** A token for this channel, where its rule asks for one; a function is called for each connection. */
  token?: TokenSource;
}

/** Options of {@link Channel.publish}. */
export interface PublishOptions {
  /** Default `message`. */
  event?: string;
  /** The message's id, when the app wants to know it before the ack; default a new one. */
  id?: string;
  /** `false`: this client does not receive its own message. */
  echo?: boolean;
  /** `true`: not counted as unread, and nobody is notified. */
  silent?: boolean;
}

/** Options of {@link Channel.signal}. */
export interface SignalOptions {
  /** For how long it holds, in ms, at most 60,000; 0 ends it. */
  ttl?: number;
  /** `true`: this client receives it, too. */
  echo?: boolean;
}

/** Options of {@link Channel.edit} and {@link Channel.delete}. */
export interface ChangeOptions {
  /** The change's own id; default a new one. */
  id?: string;
}

/** Changes of {@link Channel.members}. */
export interface Enrolment {
  add?: readonly string[];
  remove?: readonly string[];
  /** The role of those who are added. */
  role?: string;
}

/** Counts over all channels of a client. */
export interface Stats {
  /** Messages that channels took while we were away. */
  missed: number;
  /** How many of those were delivered after all. */
  recovered: number;
}

/** The settings that a channel shares with its client. */
export interface ChannelSettings {
  readonly queueLimit: number;
  readonly backoff: Backoff;
  readonly stats: Stats;
}

interface Subscription {
  readonly presence: boolean;
  readonly receipts: boolean;
  readonly token: TokenSource | undefined;
  readonly settled: Deferred<Subscribed>;
  reason: TokenReason;
  retries: number;
  /** Counts the attempts: an answer to an earlier one is too late. */
  attempt: number;
  /** The connection has it: its server has said ok, and has not ended it, and nothing of it was lost. */
  followed: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

/** Something was lost behind a place: the server was asked for what comes after it. */
interface Hole {
  readonly after: Position;
  /** What it has sent since then is all that there is. */
  answered: boolean;
}

/** A resume whose missed messages are still coming in. */
interface Resume {
  readonly missed: number;
  readonly head: number;
  recovered: number;
}

/** What is told while one types holds this long; it is told again halfway. */
const TYPING_TTL = 6_000;

/** One channel of a client, made by `client.channel(name)`. */
export class Channel extends Emitter<ChannelEvents> {
  readonly name: string;
  readonly #carrier: Carrier;
  readonly #settings: ChannelSettings;
  readonly #outbox: Outbox;
  readonly #markers: Readonly<Record<Mark, MarkerMover>>;
  readonly #typists = new Typists(() => this.emit("typing", this.typists));
  readonly #receipts = new Map<string, Progress>();
  #marker: Progress | undefined;
  #typedAt = -Infinity;
  #subscription: Subscription | undefined;
  #position: Position | undefined;
  /** Behind the position, what we have said ourselves: it is known here before it comes back. */
  #said: Position | undefined;
  /** Publishes without echo: how many are not acked yet, and the places of those that are, behind the position. They are not sent to us. */
  #unechoed = 0;
  #own: readonly Position[] = [];
  #hole: Hole | undefined;
  #resume: Resume | undefined;
  #presence: Presence | undefined;

  /** @internal */
  constructor(name: string, carrier: Carrier, settings: ChannelSettings) {
    super();
    this.name = name;
    this.#carrier = carrier;
    this.#settings = settings;
    this.#outbox = new Outbox(carrier, settings.queueLimit, settings.backoff);
    this.#markers = {
      read: new MarkerMover("read", name, carrier, settings.backoff),
      delivered: new MarkerMover("delivered", name, carrier, settings.backoff),
    };
  }

  /** Who we are here; undefined before the first connection. */
  get user(): string | undefined {
    return this.#carrier.user;
  }

  /** The newest position that was delivered; undefined before the first subscription and in channels without history. */
  get position(): Position | undefined {
    return this.#position;
  }

  /** Who is here, when subscribed with `presence`. */
  get presence(): Presence | undefined {
    return this.#presence;
  }

  /** How far we have read, as far as is known here; in durable channels only. */
  get marker(): Progress | undefined {
    return this.#marker;
  }

  /** How far others are, when subscribed with `receipts`; by user. */
  get receipts(): ReadonlyMap<string, Progress> {
    return this.#receipts;
  }

  /** Who is typing; each entry ends by itself. */
  get typists(): readonly Person[] {
    return this.#typists.list;
  }

  /**
   * Receives the channel's messages from now on (or from `since`), over every reconnect, in order and none twice. Resolves
   * with the server's first answer, however long the connection takes; rejects when the server refuses for good.
   */
  subscribe(options: SubscribeOptions = {}): Promise<Subscribed> {
    const present = this.#subscription;
    const presence = options.presence ?? present?.presence ?? false;
    const receipts = options.receipts ?? present?.receipts ?? false;
    const token = options.token ?? present?.token;
    const same = presence === present?.presence && receipts === present.receipts && token === present.token;
    if (present && same && !options.since) return present.settled.promise;
    if (options.since) [this.#position, this.#said, this.#hole] = [options.since, undefined, undefined];
    this.#end(new XpushError("unsubscribed", "replaced by a newer subscription", "no"));
    const settled = new Deferred<Subscribed>();
    // Who does not wait for the answer hears of a refusal by the event.
    settled.promise.catch(() => undefined);
    this.#subscription = { presence, receipts, token, settled, reason: "connect", retries: 0, attempt: 0, followed: false };
    this.#subscribe();
    return settled.promise;
  }

  /** Receives nothing any more, and forgets the position. */
  async unsubscribe(): Promise<void> {
    if (!this.#subscription) return;
    this.#end(new XpushError("unsubscribed", "unsubscribed before the answer came", "no"));
    this.#subscription = this.#position = this.#hole = undefined;
    this.#own = [];
    this.#forget();
    if (this.#carrier.online) await this.#request("unsubscribe", {});
  }

  /**
   * Publishes, once: kept while offline, sent again by the same id until the server has acked it, in order with the other
   * publishes of this channel. Rejects when the server refuses for good, and at once when too many wait (`queue_full`).
   */
  publish(data: Data, options: PublishOptions = {}): Promise<Published> {
    const fields = { channel: this.name, data, ...options, id: options.id ?? newId() };
    this.#typedAt = -Infinity;
    const unechoed = options.echo === false ? 1 : 0;
    this.#unechoed += unechoed;
    return this.#add<Published>({ command: "publish", fields })
      .then((published) => {
        if (unechoed) this.#skipOwn(published);
        if (this.#marker && published.seq !== undefined) this.#markedUpTo("read", published.seq);
        return published;
      })
      .finally(() => (this.#unechoed -= unechoed));
  }

  /** Replaces the data of the message at `seq`: one's own, or anybody's for who may moderate. Waits and retries as a publish does. */
  edit(seq: number, data: Data, { id = newId() }: ChangeOptions = {}): Promise<Changed> {
    return this.#add({ command: "edit", fields: { channel: this.name, seq, data, id } });
  }

  /** Withdraws the message at `seq`: one's own, or anybody's for who may moderate. Waits and retries as a publish does. */
  delete(seq: number, { id = newId() }: ChangeOptions = {}): Promise<Changed> {
    return this.#add({ command: "delete", fields: { channel: this.name, seq, id } });
  }

  /** Everything up to `seq` (default: up to what was delivered or said here) has been read. Kept while offline; never goes back. */
  read(seq = this.#known()?.seq ?? 0): Promise<Marker> {
    return this.#advanceMarker("read", seq);
  }

  /** Everything up to `seq` has reached this user. Kept while offline; never goes back. */
  delivered(seq = this.#known()?.seq ?? 0): Promise<Marker> {
    return this.#advanceMarker("delivered", seq);
  }

  /** Lists the members; with `add` and `remove`, changes them first. */
  async members(change: Enrolment = {}): Promise<readonly Member[]> {
    const { members } = await this.#request<{ readonly members: readonly Member[] }>("members", change);
    return members;
  }

  /** Sends what is worth nothing later (cursors, ticks): not kept while offline, not stored. */
  async signal(event: string, data?: Data, options: SignalOptions = {}): Promise<void> {
    await this.#request("signal", { event, ...(data !== undefined && { data }), ...options });
  }

  /**
   * Tells the others that one is typing, or (`false`) no more. To be called on each key: it is sent only when what was told
   * before would end soon. Fails silently: it is worth nothing later.
   */
  typing(on = true): void {
    const now = Date.now();
    const told = now - this.#typedAt < TYPING_TTL;
    if (!this.#carrier.online || (on ? now - this.#typedAt < TYPING_TTL / 2 : !told)) return;
    this.#typedAt = on ? now : -Infinity;
    this.signal("typing", undefined, { ttl: on ? TYPING_TTL : 0 }).catch(() => undefined);
  }

  /** A page of the channel's history; `before` and `after` are exclusive. */
  async history(range: { before?: number; after?: number; limit?: number } = {}): Promise<HistoryPage> {
    const { messages: slots, ...page } = await this.#request<HistorySlots>("history", range);
    const isChange = (slot: Message | Edit | Deletion): slot is Edit | Deletion => "target" in slot;
    const messages = slots.filter((slot): slot is Message => !isChange(slot));
    return { ...page, messages, changes: slots.filter(isChange) };
  }

  /** Asks who is there now, without subscribing. */
  listPresence(): Promise<PresenceList> {
    return this.#request("presence", {});
  }

  /** @internal Whether there is a subscription, answered or not. */
  get wanted(): boolean {
    return this.#subscription !== undefined;
  }

  /** @internal Whether the connection has it. */
  get followed(): boolean {
    return this.#subscription?.followed === true;
  }

  /** @internal What had the subscription has it no more. */
  cutOff(): void {
    if (this.#subscription) this.#subscription.followed = false;
  }

  /** @internal Subscribes once more, from the position that was delivered. */
  subscribeAgain(): void {
    if (this.#subscription) this.#subscribe();
  }

  /** @internal A new connection is up: the server knows nothing of us yet. */
  connected(): void {
    this.#typedAt = -Infinity;
    this.cutOff();
    this.subscribeAgain();
    this.#outbox.connected();
    for (const mover of Object.values(this.#markers)) mover.connected();
  }

  /** @internal Nothing will be answered any more. */
  fail(error: XpushError): void {
    this.#end(error);
    this.#subscription = undefined;
    this.#forget();
    this.#outbox.fail(error);
    for (const mover of Object.values(this.#markers)) mover.fail(error);
  }

  /** @internal */
  receiveMessage(message: Message): void {
    if (!this.#subscription) return;
    const { epoch, seq } = message;
    if (epoch !== undefined && seq !== undefined && !this.#advance({ epoch, seq })) return;
    this.#typists.remove(message.from.user);
    this.emit("message", message);
    this.#countRecovered(seq);
  }

  /** @internal */
  receiveEdit(edit: Edit): void {
    if (!this.#subscription || !this.#advance(edit)) return;
    this.emit("edit", edit);
    this.#countRecovered(edit.seq);
  }

  /** @internal */
  receiveDeletion(deletion: Deletion): void {
    if (!this.#subscription || !this.#advance(deletion)) return;
    this.emit("delete", deletion);
    this.#countRecovered(deletion.seq);
  }

  /** @internal */
  receiveReceipt(mark: Mark, receipt: Receipt): void {
    if (receipt.user === this.#carrier.user) this.#markedUpTo(mark, receipt.seq);
    else if (this.#subscription?.receipts) this.#receipts.set(receipt.user, moved(this.#receipts.get(receipt.user), mark, receipt.seq));
    else return;
    this.emit(mark, receipt);
  }

  /** @internal */
  receiveSignal(signal: Signal): void {
    if (!this.#subscription) return;
    const { event, from, ttl } = signal;
    if (event === "typing" && ttl !== undefined && from.user !== this.#carrier.user) this.#typists.tell(from, ttl);
    this.emit("signal", signal);
  }

  /** @internal Whether the subscription goes on: it is made again, from the position that was delivered. */
  receiveUnsubscribed(body: ErrorBody): boolean {
    const subscription = this.#subscription;
    if (!subscription) return false;
    const error = XpushError.from(body);
    subscription.followed = false;
    if (error.code === "token_expired" && typeof subscription.token === "function") {
      subscription.reason = "expired";
      this.#subscribe();
      return true;
    }
    if (error.retry !== "no") {
      this.#notSubscribed(subscription, error);
      return true;
    }
    this.#end(error);
    this.#subscription = undefined;
    this.#forget();
    this.emit("unsubscribed", error);
    return false;
  }

  /** @internal */
  receiveGap({ epoch, seq }: Skipped): void {
    if (!this.#subscription) return;
    const from = this.#position;
    if (from) this.#startOver(from, { epoch, seq }, seq);
    else this.#stand({ epoch, seq });
  }

  /** @internal */
  receivePresence({ unknown, users: all, joined = [], left = [], ...change }: PresenceChange): void {
    if (!this.#subscription?.presence) return;
    const count = change.count ?? this.#presence?.count ?? 0;
    if (unknown) return this.#setPresence({ count, users: this.#presence?.users ?? [], unknown });
    if (all) return this.#setPresence({ count, users: all });
    const gone = new Set([...left, ...joined].map(({ user }) => user));
    const users = (this.#presence?.users ?? []).filter(({ user }) => !gone.has(user));
    // What comes while it is unknown is true of those whom it names.
    const still = this.#presence?.unknown && { unknown: true };
    this.#setPresence({ count, users: [...users, ...joined], ...still });
  }

  #subscribe(): void {
    const subscription = this.#subscription;
    if (!subscription || !this.#carrier.online) return;
    // What was planned before is this attempt.
    clearTimeout(subscription.timer);
    const attempt = ++subscription.attempt;
    const { token, reason } = subscription;
    if (typeof token !== "function") return this.#sendSubscribe(subscription, token);
    const current = (): boolean => subscription === this.#subscription && attempt === subscription.attempt;
    takeToken(token, reason).then(
      (taken) => current() && this.#sendSubscribe(subscription, taken),
      (error: XpushError) => current() && this.#notSubscribed(subscription, error),
    );
  }

  #sendSubscribe(subscription: Subscription, token: string | undefined): void {
    if (!this.#carrier.online) return;
    const { attempt } = subscription;
    const since = this.#position;
    const fields = {
      channel: this.name,
      ...(since && { since }),
      ...(subscription.presence && { presence: true }),
      ...(subscription.receipts && { receipts: true }),
      ...(token !== undefined && { token }),
    };
    this.#carrier.command("subscribe", fields, (answer) => {
      // The server ends an attempt that a later one overtakes.
      if (subscription !== this.#subscription || attempt !== subscription.attempt) return;
      if ("ok" in answer) this.#subscribed(subscription, since, answer.ok as Subscribed);
      else this.#notSubscribed(subscription, XpushError.from(answer.error));
    });
  }

  #subscribed(subscription: Subscription, since: Position | undefined, ok: Subscribed): void {
    subscription.retries = 0;
    subscription.reason = "connect";
    subscription.followed = true;
    clearTimeout(subscription.timer);
    if (since && ok.epoch !== since.epoch) this.#forgetProgress();
    if (ok.presence) this.#setPresence(ok.presence);
    if (ok.read !== undefined) this.#marker = { read: ok.read, delivered: ok.delivered ?? ok.read };
    for (const { user, read, delivered } of ok.receipts ?? []) this.#receipts.set(user, { read, delivered });
    this.emit("subscribed", ok);
    subscription.settled.resolve(ok);
    if (ok.epoch === undefined || ok.seq === undefined) return;

    const head: Position = { epoch: ok.epoch, seq: ok.seq };
    if (this.#hole) this.#hole.answered = true;
    // What comes again comes whole.
    this.#own = this.#own.filter((own) => isAfter(head, own));
    // While the connection moved, the one before has gone on delivering.
    const meanwhile = since?.epoch === head.epoch && this.#position?.epoch === head.epoch ? this.#position.seq - since.seq : 0;
    const missed = Math.max(0, (ok.missed ?? 0) - meanwhile);
    if (!since) {
      this.#stand(head);
    } else if (ok.recovered && since.epoch === head.epoch) {
      this.#settings.stats.missed += missed;
      this.#resume = { missed, head: head.seq, recovered: 0 };
      if (missed === 0) this.#endResume();
    } else {
      // The newest page follows, which `missed` counts; it is delivered from its first message on.
      this.#startOver(since, head, head.seq - (ok.missed ?? 0));
    }
  }

  #notSubscribed(subscription: Subscription, error: XpushError): void {
    const renewable = error.code === "token_expired" && typeof subscription.token === "function";
    if (renewable) subscription.reason = "expired";
    // Overtaken by what is not known here: it is no refusal.
    const overtaken = error.code === "cancelled";
    if (error.retry === "no" && !renewable && !overtaken) {
      this.#end(error);
      this.#subscription = undefined;
      this.emit("refused", error);
    } else if (error.retry === "reconnect") {
      // After `disconnected` the next connection subscribes.
      if (this.#carrier.online) this.#carrier.reconnect();
    } else {
      const delay = backoffDelay(this.#settings.backoff, subscription.retries++);
      subscription.timer = setTimeout(() => this.#subscribe(), delay);
    }
  }

  /** Ends the present subscription's waiting; a promise that was answered already stays so. */
  #end(error: XpushError): void {
    clearTimeout(this.#subscription?.timer);
    this.#subscription?.settled.reject(error);
  }

  /** Moves on to the position of a message; false when it was delivered before, or will come again behind what was lost before it. */
  #advance({ epoch, seq }: Position): boolean {
    const to = { epoch, seq };
    const from = this.#position;
    if (from && from.epoch === to.epoch && to.seq <= from.seq) return false;
    if (from && from.epoch !== to.epoch) this.#startOver(from, to, to.seq);
    else if (from && to.seq > from.seq + 1 && this.#isLost(from)) return false;
    this.#stand(to);
    return true;
  }

  /**
   * Whether what lies behind `after` is lost on the way, and comes by another subscription; it is asked for once. Not while a
   * publish without echo has still to be acked: that may be the place which was passed over.
   */
  #isLost(after: Position): boolean {
    const asked = this.#hole?.after.epoch === after.epoch && this.#hole.after.seq === after.seq;
    if (asked) return !this.#hole?.answered;
    if (this.#unechoed > 0) return false;
    this.#hole = { after, answered: false };
    this.cutOff();
    this.#subscribe();
    return true;
  }

  /** Takes a position, and passes over our own messages right behind it. */
  #stand(position: Position): void {
    for (const own of this.#own) if (follows(position, own)) position = own;
    this.#own = this.#own.filter((own) => isAfter(position, own));
    this.#position = position;
  }

  /** Goes on after `seq` in what may be another epoch, and says what was lost. */
  #startOver(from: Position, head: Position, seq: number): void {
    const lost = from.epoch === head.epoch && seq >= from.seq ? { lost: seq - from.seq } : {};
    this.#resume = undefined;
    this.#stand({ epoch: head.epoch, seq });
    if (from.epoch !== head.epoch) this.#forgetProgress();
    if ("lost" in lost) this.#settings.stats.missed += lost.lost;
    this.emit("gap", { channel: this.name, from, to: head, ...lost });
  }

  #countRecovered(seq: number | undefined): void {
    const resume = this.#resume;
    if (!resume || seq === undefined) return;
    if (seq <= resume.head) {
      resume.recovered += 1;
      this.#settings.stats.recovered += 1;
    }
    if (seq >= resume.head) this.#endResume();
  }

  #endResume(): void {
    const resume = this.#resume;
    if (!resume) return;
    this.#resume = undefined;
    this.emit("recovered", { channel: this.name, missed: resume.missed, recovered: resume.recovered });
  }

  /** Waits for the place of what is said. */
  async #add<Acked extends Partial<Position>>(entry: Entry): Promise<Acked> {
    const acked = await this.#outbox.add<Acked>(entry);
    this.#say(acked);
    return acked;
  }

  /** How far everything is known here: what was delivered, and behind it what we have said. */
  #known(): Position | undefined {
    const [position, said] = [this.#position, this.#said];
    return said && position?.epoch === said.epoch && position.seq < said.seq ? said : position;
  }

  /** The server has acked what we said; when others' messages precede it, it is not known how far one is. */
  #say(acked: Partial<Position>): void {
    if (follows(this.#known(), acked)) this.#said = { epoch: acked.epoch, seq: acked.seq };
  }

  /** Our own message, which is not echoed, is no hole; one that others' messages precede must still wait for them. */
  #skipOwn(published: Partial<Position>): void {
    const { epoch, seq } = published;
    if (!this.#subscription || epoch === undefined || seq === undefined) return;
    this.#own = [...this.#own, { epoch, seq }].sort((one, other) => one.seq - other.seq);
    if (this.#position) this.#stand(this.#position);
  }

  async #advanceMarker(mark: Mark, seq: number): Promise<Marker> {
    const marker = await this.#markers[mark].advance(seq);
    this.#markedUpTo("delivered", marker.delivered);
    this.#markedUpTo("read", marker.read);
    return marker;
  }

  #markedUpTo(mark: Mark, seq: number): void {
    this.#marker = moved(this.#marker, mark, seq);
  }

  /** What hangs by a subscription and does not outlive it. */
  #forget(): void {
    this.#resume = this.#presence = undefined;
    this.#typists.clear();
    this.#forgetProgress();
  }

  /** Markers are of one epoch. */
  #forgetProgress(): void {
    this.#marker = undefined;
    this.#receipts.clear();
  }

  #setPresence(presence: Presence): void {
    this.#presence = presence;
    this.emit("presence", presence);
  }

  #request<Ok>(command: string, fields: object): Promise<Ok> {
    return new Promise((resolve, reject) => {
      this.#carrier.command(command, { channel: this.name, ...fields }, (answer: Answer) => {
        if ("ok" in answer) resolve(answer.ok as Ok);
        else reject(XpushError.from(answer.error));
      });
    });
  }
}

/** Whether `place` comes somewhere after `last`. */
function isAfter(last: Position, place: Position): boolean {
  return place.epoch === last.epoch && place.seq > last.seq;
}

/** Whether `next` is the place after `last`. */
function follows(last: Position | undefined, next: Partial<Position>): next is Position {
  return last !== undefined && next.epoch === last.epoch && next.seq === last.seq + 1;
}

/** Forward only; what is read has been delivered. */
function moved({ read, delivered }: Progress = { read: 0, delivered: 0 }, mark: Mark, seq: number): Progress {
  return { read: mark === "read" ? Math.max(read, seq) : read, delivered: Math.max(delivered, seq) };
}
