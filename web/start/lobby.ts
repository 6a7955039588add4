import { batch, computed, signal } from "@preact/signals";
import { Timeline, type Channel, type Person, type Presence, type TimelineEntry, type XpushError } from "@xpush/client";
import { Attachments, fileOf, type SentFile } from "./attachments.ts";
import type { Connection } from "./connection.ts";

const CHANNEL = "chat:lobby";
const SHOWN = 300;

/** A line of the chat: what the server has, or what is on its way there. */
export interface Line {
  readonly key: string;
  readonly text: string;
  readonly file?: SentFile;
  readonly from: Person;
  readonly own: boolean;
  readonly at: number;
  readonly seq?: number;
  /** Messages may be missing between the line above and this one. */
  readonly gap: boolean;
  readonly edited: boolean;
  readonly deleted: boolean;
  readonly status: TimelineEntry["state"];
  /** Somebody else has read it. */
  readonly read: boolean;
  readonly error?: string;
}

/** The chat of the start page. */
export class Lobby {
  readonly lines = signal<readonly Line[]>([]);
  readonly presence = signal<Presence | undefined>(undefined);
  readonly history = signal<Timeline["history"] | "refused">("loading");
  /** Users who are typing. */
  readonly typing = signal<readonly Person[]>([]);
  /** The own line that is being rewritten. */
  readonly editing = signal<Line | undefined>(undefined);
  readonly waiting = computed(() => this.lines.value.filter(({ status }) => status === "pending").length);
  readonly channel: Channel;
  readonly attachments: Attachments;
  readonly #connection: Connection;
  readonly #timeline: Timeline;
  /** The lobby is set up as a channel without markers. */
  #unmarked = false;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.channel = connection.client.channel(CHANNEL);
    this.#timeline = new Timeline(this.channel);
    this.attachments = new Attachments(connection.client, CHANNEL, ({ ...file }) => this.#timeline.send({ text: "", file }));
    this.#timeline.on("change", () => this.#refresh());
    this.channel.on("read", () => this.#refresh());
    this.channel.on("presence", (presence) => (this.presence.value = presence));
    this.channel.on("typing", (people) => (this.typing.value = people));
    this.channel.on("gap", () => this.#fillGaps());
    this.channel.subscribe({ presence: true, receipts: true }).catch(() => (this.history.value = "refused"));
  }

  loadHistory(): void {
    void this.#timeline.load();
  }

  /** Shows the line at once; its status follows the ack. */
  send(text: string): void {
    this.#timeline.send({ text });
  }

  retry({ key }: Line): void {
    this.#timeline.retry(key);
  }

  dismiss({ key }: Line): void {
    this.#timeline.discard(key);
  }

  /** Puts other words into an own line; the line shows them once the server has them. */
  rewrite({ seq }: Line, text: string): void {
    this.editing.value = undefined;
    if (seq !== undefined) this.channel.edit(seq, { text }).catch(() => undefined);
  }

  withdraw({ seq }: Line): void {
    if (seq !== undefined) this.channel.delete(seq).catch(() => undefined);
  }

  /** To be called when the newest line has been seen. */
  seen(): void {
    if (this.#unmarked || document.visibilityState !== "visible") return;
    this.#timeline.read().catch((error: XpushError) => (this.#unmarked = error.retry === "no"));
  }

  /** To be called on each key; others are told now and then. */
  tellTyping(): void {
    this.channel.typing();
  }

  /** What a subscription could not bring may still be in the history. */
  #fillGaps(): void {
    for (const gap of this.#timeline.gaps) this.#timeline.fill(gap).catch(() => undefined);
  }

  #refresh(): void {
    const entries = this.#timeline.entries.slice(-SHOWN);
    batch(() => {
      this.lines.value = entries.map((entry, index) => this.#line(entry, entries[index - 1]));
      if (this.history.value !== "refused") this.history.value = this.#timeline.history;
    });
  }

  #line({ key, message, state, error }: TimelineEntry, above: TimelineEntry | undefined): Line {
    const { seq } = message;
    const file = fileOf(message.data, CHANNEL);
    const me = this.#connection.welcome.value?.user;
    const own = state !== "sent" || message.from.user === me;
    const from = own ? { user: me ?? "me", name: message.from.name ?? this.#connection.name.value } : message.from;
    return {
      key,
      text: textOf(message.data),
      from,
      own,
      at: message.at,
      gap: above !== undefined && this.#isGap(above, message),
      edited: message.edited !== undefined,
      deleted: message.deleted !== undefined,
      status: state,
      read: own && seq !== undefined && [...this.channel.receipts.values()].some(({ read }) => read >= seq),
      ...(seq !== undefined && { seq }),
      ...(file && { file }),
      ...(error && { error: error.message }),
    };
  }

  #isGap({ message: above }: TimelineEntry, { epoch, seq }: TimelineEntry["message"]): boolean {
    if (seq === undefined || above.seq === undefined) return false;
    if (epoch !== above.epoch) return true;
    const after = above.seq;
    return this.#timeline.gaps.some(({ from }) => from > after && from < seq);
  }
}

/** Any client may publish anything: `{text}`, a plain string, or else its JSON. */
function textOf(data: unknown): string {
  if (typeof data === "string") return data;
  if (typeof data === "object" && data !== null && "text" in data && typeof data.text === "string") return data.text;
  return JSON.stringify(data) ?? "";
}
