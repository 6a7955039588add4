import { backoffDelay, type Backoff } from "./backoff.ts";
import { Emitter } from "./emitter.ts";
import { Outbox, type Carrier } from "./outbox.ts";
import {
  newId,
  XpushError,
  type Answer,
  type Data,
  type HistoryPage,
  type Message,
  type Person,
  type Position,
  type PresenceChange,
  type PresenceList,
  type Published,
  type Signal,
  type Skipped,
  type Subscribed,
} from "./protocol.ts";

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
}

/** What a channel tells. */
export interface ChannelEvents {
  message: Message;
  signal: Signal;
  presence: Presence;
  subscribed: Subscribed;
  recovered: Recovered;
  gap: Gap;
  /** The server takes the subscription no longer, and never will. */
  refused: XpushError;
}

/** Options of {@link Channel.subscribe}. */
export interface SubscribeOptions {
  /** Also tell who is there. */
  presence?: boolean;
  /** Resume from here, for instance from where an earlier run of the app stopped. */
  since?: Position;
}

/** Options of {@link Channel.publish}. */
export interface PublishOptions {
  /** Default `message`. */
  event?: string;
  /** The message's id, when the app wants to know it before the ack; default a new one. */
  id?: string;
  /** `false`: this client does not receive its own message. */
  echo?: boolean;
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
  readonly settled: Deferred<Subscribed>;
  retries: number;
  timer?: ReturnType<typeof setTimeout>;
}

/** A resume whose missed messages are still coming in. */
interface Resume {
  readonly missed: number;
  readonly head: number;
  recovered: number;
}

/** One channel of a client, made by `client.channel(name)`. */
export class Channel extends Emitter<ChannelEvents> {
  readonly name: string;
  readonly #carrier: Carrier;
  readonly #settings: ChannelSettings;
  readonly #outbox: Outbox;
  #subscription: Subscription | undefined;
  #position: Position | undefined;
  #resume: Resume | undefined;
  #presence: Presence | undefined;

  /** @internal */
  constructor(name: string, carrier: Carrier, settings: ChannelSettings) {
    super();
    this.name = name;
    this.#carrier = carrier;
    this.#settings = settings;
    this.#outbox = new Outbox(carrier, settings.queueLimit, settings.backoff);
  }

  /** The newest position that was delivered; undefined before the first subscription and in channels without history. */
  get position(): Position | undefined {
    return this.#position;
  }

  /** Who is here, when subscribed with `presence`. */
  get presence(): Presence | undefined {
    return this.#presence;
  }

  /**
   * Receives the channel's messages from now on (or from `since`), over every reconnect, in order and none twice. Resolves
   * with the server's first answer, however long the connection takes; rejects when the server refuses for good.
   */
  subscribe(options: SubscribeOptions = {}): Promise<Subscribed> {
    const present = this.#subscription;
    const presence = options.presence ?? present?.presence ?? false;
    if (present && !options.since && presence === present.presence) return present.settled.promise;
    if (options.since) this.#position = options.since;
    this.#end(new XpushError("unsubscribed", "replaced by a newer subscription", "no"));
    const settled = new Deferred<Subscribed>();
    // Who does not wait for the answer hears of a refusal by the event.
    settled.promise.catch(() => undefined);
    this.#subscription = { presence, settled, retries: 0 };
    this.#subscribe();
    return settled.promise;
  }

  /** Receives nothing any more, and forgets the position. */
  async unsubscribe(): Promise<void> {
    if (!this.#subscription) return;
    this.#end(new XpushError("unsubscribed", "unsubscribed before the answer came", "no"));
    this.#subscription = this.#position = this.#resume = this.#presence = undefined;
    if (this.#carrier.online) await this.#request("unsubscribe", {});
  }

  /**
   * Publishes, once: kept while offline, sent again by the same id until the server has acked it, in order with the other
   * publishes of this channel. Rejects when the server refuses for good, and at once when too many wait (`queue_full`).
   */
  publish(data: Data, options: PublishOptions = {}): Promise<Published> {
    const publication = { channel: this.name, data, ...options, id: options.id ?? newId() };
    const acked = this.#outbox.add(publication);
    return options.echo === false ? acked.then((published) => this.#skipOwn(published)) : acked;
  }

  /** Sends what is worth nothing later (typing, cursors): not kept while offline, not stored. */
  async signal(event: string, data?: Data): Promise<void> {
    await this.#request("signal", data === undefined ? { event } : { event, data });
  }

  /** A page of the channel's history, in ascending order; `before` and `after` are exclusive. */
  history(range: { before?: number; after?: number; limit?: number } = {}): Promise<HistoryPage> {
    return this.#request("history", range);
  }

  /** Asks who is there now, without subscribing. */
  listPresence(): Promise<PresenceList> {
    return this.#request("presence", {});
  }

  /** @internal A new connection is up: the server knows nothing of us yet. */
  connected(): void {
    if (this.#subscription) this.#subscribe();
    this.#outbox.connected();
  }

  /** @internal Nothing will be answered any more. */
  fail(error: XpushError): void {
    this.#end(error);
    this.#subscription = undefined;
    this.#outbox.fail(error);
  }

  /** @internal */
  receiveMessage(message: Message): void {
    if (!this.#subscription) return;
    const { epoch, seq } = message;
    if (epoch !== undefined && seq !== undefined && !this.#advance({ epoch, seq })) return;
    this.emit("message", message);
    this.#countRecovered(seq);
  }

  /** @internal */
  receiveSignal(signal: Signal): void {
    if (this.#subscription) this.emit("signal", signal);
  }

  /** @internal */
  receiveGap({ epoch, seq }: Skipped): void {
    if (!this.#subscription) return;
    const from = this.#position;
    if (from) this.#startOver(from, { epoch, seq }, seq);
    else this.#position = { epoch, seq };
  }

  /** @internal */
  receivePresence({ count, joined = [], left = [] }: PresenceChange): void {
    if (!this.#subscription?.presence) return;
    const gone = new Set([...left, ...joined].map(({ user }) => user));
    const users = (this.#presence?.users ?? []).filter(({ user }) => !gone.has(user));
    this.#setPresence({ count, users: [...users, ...joined] });
  }

  #subscribe(): void {
    const subscription = this.#subscription;
    if (!subscription || !this.#carrier.online) return;
    const since = this.#position;
    const fields = {
      channel: this.name,
      ...(since && { since }),
      ...(subscription.presence && { presence: true }),
    };
    this.#carrier.command("subscribe", fields, (answer) => {
      if (subscription !== this.#subscription) return;
      if ("ok" in answer) this.#subscribed(subscription, since, answer.ok as Subscribed);
      else this.#notSubscribed(subscription, XpushError.from(answer.error));
    });
  }

  #subscribed(subscription: Subscription, since: Position | undefined, ok: Subscribed): void {
    subscription.retries = 0;
    if (ok.presence) this.#setPresence(ok.presence);
    this.emit("subscribed", ok);
    subscription.settled.resolve(ok);
    if (ok.epoch === undefined || ok.seq === undefined) return;

    const head: Position = { epoch: ok.epoch, seq: ok.seq };
    const missed = ok.missed ?? 0;
    if (!since) {
      this.#position = head;
    } else if (ok.recovered && since.epoch === head.epoch) {
      this.#settings.stats.missed += missed;
      this.#resume = { missed, head: head.seq, recovered: 0 };
      if (missed === 0) this.#endResume();
    } else {
      // The newest page follows, which `missed` counts; it is delivered from its first message on.
      this.#startOver(since, head, head.seq - missed);
    }
  }

  #notSubscribed(subscription: Subscription, error: XpushError): void {
    if (error.retry === "no") {
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

  /** Moves on to the position of a message; false when it was delivered before. */
  #advance(to: Position): boolean {
    const from = this.#position;
    if (from && from.epoch === to.epoch && to.seq <= from.seq) return false;
    if (from && from.epoch !== to.epoch) this.#startOver(from, to, to.seq);
    this.#position = to;
    return true;
  }

  /** Goes on after `seq` in what may be another epoch, and says what was lost. */
  #startOver(from: Position, head: Position, seq: number): void {
    const lost = from.epoch === head.epoch && seq >= from.seq ? { lost: seq - from.seq } : {};
    this.#resume = undefined;
    this.#position = { epoch: head.epoch, seq };
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

  /** Our own message, which is not echoed, is no hole; one that others' messages precede must still wait for them. */
  #skipOwn(published: Published): Published {
    const { epoch, seq } = published;
    const { epoch: ours, seq: last } = this.#position ?? {};
    if (epoch !== undefined && epoch === ours && last !== undefined && seq === last + 1) this.#position = { epoch, seq };
    return published;
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

/** What `Promise.withResolvers` makes, which Node 20 does not have yet. */
class Deferred<T> {
  resolve!: (value: T) => void;
  reject!: (reason: unknown) => void;
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}
