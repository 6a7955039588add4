import type { Channel, PublishOptions } from "./channel.ts";
import { Emitter } from "./emitter.ts";
import { newId, type Data, type HistoryPage, type Message, type Subscribed, type XpushError } from "./protocol.ts";
import { Stretch, type Range, type Run } from "./stretch.ts";

/** A message of a timeline: what the server has, or what is on its way there. */
export interface TimelineEntry {
  /** The same from the first moment on. */
  readonly key: string;
  /** As it reads now; without `seq` until the server has it. */
  readonly message: Message;
  readonly state: "sent" | "pending" | "failed";
  /** Why it failed. */
  readonly error?: XpushError;
}

/** What a timeline tells. */
export interface TimelineEvents {
  /** Something about it is different now. */
  change: Timeline;
}

/** Options of {@link Timeline}. */
export interface TimelineOptions {
  /** Messages a page of history; default 50, at most 100. */
  page?: number;
}

interface Unsent {
  readonly message: Message;
  readonly options: PublishOptions;
  readonly error?: XpushError;
}

/** The pseudo-epoch of channels that keep nothing: their messages are numbered as they come. */
const NO_HISTORY = "";

/**
 * An ordered view of a channel: its messages in their places with edits and deletions folded in, whatever way and in whatever
 * order they arrived; behind them what was sent here and is not acked yet. It loads the newest page when the channel is
 * subscribed, and more when asked to.
 */
export class Timeline extends Emitter<TimelineEvents> {
  readonly channel: Channel;
  readonly #pageSize: number;
  readonly #stretches: Stretch[] = [];
  readonly #unsent = new Map<string, Unsent>();
  readonly #listening: readonly (() => void)[];
  #arrivals = 0;
  #reachedStart = false;
  #history: "none" | "loading" | "loaded" | "failed" = "none";
  /** The server's last count, and up to where it counted. */
  #told: { readonly unread: number; readonly head: number } | undefined;

  constructor(channel: Channel, { page = 50 }: TimelineOptions = {}) {
    super();
    this.channel = channel;
    this.#pageSize = page;
    this.#listening = [
      channel.on("subscribed", (subscribed) => this.#subscribed(subscribed)),
      channel.on("message", (message) => this.#received(message)),
      channel.on("edit", (edit) => this.#changed(edit.epoch, (stretch) => stretch.edit(edit))),
      channel.on("delete", (deletion) => this.#changed(deletion.epoch, (stretch) => stretch.delete(deletion))),
      channel.on("read", () => this.#tell()),
    ];
    const { position } = channel;
    if (position) this.#begin(position.epoch);
  }

  /** Everything, in order; what has no place yet stands at the end, in the order in which it was sent. */
  get entries(): readonly TimelineEntry[] {
    const sent = this.#stretches.flatMap(({ epoch, messages }) => (epoch === NO_HISTORY ? messages.map(placeless) : messages));
    const unsent = [...this.#unsent.values()];
    return [
      ...sent.map((message) => ({ key: this.#keyOf(message), message, state: "sent" as const })),
      ...unsent.map(({ message, error }) => ({
        key: ownKey(message.id),
        message,
        ...(error ? { state: "failed" as const, error } : { state: "pending" as const }),
      })),
    ];
  }

  /** Places within the view that nobody has told of; {@link fill} asks for them. */
  get gaps(): readonly Run[] {
    return this.#current?.gaps ?? [];
  }

  /** Whether there is nothing before the first entry. */
  get complete(): boolean {
    return this.#reachedStart;
  }

  /** Whether the newest page is here; after `failed`, {@link load} tries again. */
  get history(): "none" | "loading" | "loaded" | "failed" {
    return this.#history;
  }

  /** Messages of others behind what we have read: counted here as far as all of them are here, else as the server last told. */
  get unread(): number {
    const stretch = this.#current;
    const read = this.channel.marker?.read;
    if (!stretch || read === undefined) return 0;
    const head = stretch.bounds?.to ?? 0;
    const since = (seq: number) => stretch.messages.filter((message) => (message.seq ?? 0) > seq && this.#counts(message)).length;
    if (!this.#told || read >= this.#told.head || stretch.knows({ from: read + 1, to: head })) return since(read);
    return this.#told.unread + since(this.#told.head);
  }

  /** Publishes; the entry is there at once, and its state follows the ack. Its key. */
  send(data: Data, options: PublishOptions = {}): string {
    const id = options.id ?? newId();
    const { event = "message" } = options;
    const from = { user: this.channel.user ?? "" };
    const message: Message = { channel: this.channel.name, id, event, data, from, at: Date.now() };
    this.#publish({ message, options: { ...options, id } });
    return ownKey(id);
  }

  /** Publishes an entry that failed once more, by the same id. */
  retry(key: string): void {
    const unsent = this.#unsent.get(key);
    if (unsent?.error) this.#publish({ message: unsent.message, options: unsent.options });
  }

  /** Forgets an entry that failed. */
  discard(key: string): void {
    if (this.#unsent.get(key)?.error && this.#unsent.delete(key)) this.#tell();
  }

  /** Everything that is here has been read. */
  async read(): Promise<void> {
    const { epoch, seq } = this.channel.position ?? {};
    if (seq === undefined || seq <= (this.channel.marker?.read ?? 0)) return;
    const { unread } = await this.channel.read(seq);
    if (this.#current?.epoch === epoch) this.#told = { unread, head: seq };
    this.#tell();
  }

  /** Fetches the newest page, which a subscription does by itself. Never rejects: {@link history} tells. */
  async load(): Promise<void> {
    this.#history = "loading";
    this.#tell();
    const loaded = await this.#load({}).then(
      () => true,
      () => false,
    );
    this.#history = loaded ? "loaded" : "failed";
    this.#tell();
  }

  /** Fetches the page before the first entry; false when there is none. */
  async loadOlder(): Promise<boolean> {
    const from = this.#current?.bounds?.from;
    await this.#load(from === undefined ? {} : { before: from });
    return !this.#reachedStart;
  }

  /** Fetches a page into a gap; what cannot be had any more is no gap afterwards. */
  async fill({ from }: Run): Promise<void> {
    await this.#load({ after: from - 1 });
  }

  /** Hears of nothing any more. */
  close(): void {
    for (const stop of this.#listening) stop();
  }

  get #current(): Stretch | undefined {
    return this.#stretches.at(-1);
  }

  #counts({ silent, deleted, from }: Message): boolean {
    return !silent && !deleted && from.user !== this.channel.user;
  }

  #publish(unsent: Unsent): void {
    const key = ownKey(unsent.message.id);
    this.#unsent.set(key, unsent);
    this.#tell();
    this.channel.publish(unsent.message.data, unsent.options).then(
      ({ epoch, seq, at }) => {
        // The echo may have been here before the ack.
        if (!this.#unsent.delete(key)) return;
        const from = { ...unsent.message.from, user: this.channel.user ?? unsent.message.from.user };
        const silent = unsent.options.silent ? { silent: true } : {};
        const place = epoch !== undefined && seq !== undefined ? { epoch, seq } : {};
        this.#place({ ...unsent.message, ...silent, ...place, from, at });
      },
      (error: XpushError) => {
        if (!this.#unsent.has(key)) return;
        this.#unsent.set(key, { ...unsent, error });
        this.#tell();
      },
    );
  }

  #received(message: Message): void {
    this.#unsent.delete(this.#keyOf(message));
    this.#place(message);
  }

  #place(message: Message): void {
    const { epoch = NO_HISTORY, seq } = message;
    const stretch = this.#stretch(epoch);
    if (seq !== undefined) stretch.message({ ...message, seq });
    else if (!stretch.messages.some((known) => known.id === message.id && known.from.user === message.from.user)) {
      stretch.message({ ...message, seq: ++this.#arrivals });
    }
    this.#tell();
  }

  #changed(epoch: string, change: (stretch: Stretch) => void): void {
    change(this.#stretch(epoch));
    this.#tell();
  }

  #subscribed({ epoch, seq, unread, recovered }: Subscribed): void {
    if (epoch === undefined || seq === undefined) return;
    if (unread !== undefined) this.#told = { unread, head: seq };
    // A resume brings what was missed; else only what comes from now on is pushed.
    if (recovered === undefined) this.#begin(epoch);
    else this.#tell();
  }

  #begin(epoch: string): void {
    this.#stretch(epoch);
    void this.load();
  }

  async #load(range: Range): Promise<void> {
    const page: HistoryPage = await this.channel.history({ ...range, limit: this.#pageSize });
    for (const message of page.messages) this.#unsent.delete(this.#keyOf(message));
    const stretch = this.#stretch(page.epoch);
    stretch.page(range, page);
    if (stretch === this.#current && (stretch.bounds?.from ?? 0) <= page.first) this.#reachedStart = true;
    this.#tell();
  }

  #stretch(epoch: string): Stretch {
    const known = this.#stretches.find((stretch) => stretch.epoch === epoch);
    if (known) return known;
    const made = new Stretch(epoch);
    this.#stretches.push(made);
    this.#reachedStart = false;
    if (this.#stretches.length > 1) this.#told = undefined;
    return made;
  }

  #keyOf({ from, id }: Message): string {
    return from.user === this.channel.user ? ownKey(id) : `${from.user}/${id}`;
  }

  #tell(): void {
    this.emit("change", this);
  }
}

/** One's own messages have their key before it is known who one is. */
function ownKey(id: string): string {
  return `/${id}`;
}

function placeless({ seq, ...message }: Message): Message {
  return message;
}
