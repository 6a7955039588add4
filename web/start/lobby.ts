import { batch, computed, signal } from "@preact/signals";
import { newId, XpushError, type Channel, type Message, type Person, type Presence } from "@xpush/client";
import type { Connection } from "./connection.ts";

const CHANNEL = "chat:lobby";
const PAGE = 50;
const KEPT = 300;

/** Somebody who typed is shown as typing this long, and told again at most every half of it. */
const TYPING_MS = 4_000;

/** A line of the chat: what the server has, or what is on its way there. */
export interface Line {
  readonly key: string;
  readonly id: string;
  readonly text: string;
  readonly from: Person;
  readonly at: number;
  readonly seq?: number;
  /** Counts the gaps before this line: positions are compared within one stretch only. */
  readonly stretch: number;
  readonly status: "pending" | "sent" | "failed";
  readonly error?: string;
}

/** The chat of the start page. */
export class Lobby {
  readonly lines = signal<readonly Line[]>([]);
  readonly presence = signal<Presence | undefined>(undefined);
  readonly history = signal<"loading" | "loaded" | "failed" | "refused">("loading");
  /** Users who are typing. */
  readonly typing = signal<readonly Person[]>([]);
  readonly waiting = computed(() => this.lines.value.filter(({ status }) => status === "pending").length);
  readonly channel: Channel;
  readonly #connection: Connection;
  readonly #typingTimers = new Map<string, ReturnType<typeof setTimeout>>();
  #toldTypingAt = -Infinity;
  #stretch = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.channel = connection.client.channel(CHANNEL);
    this.channel.on("message", (message) => this.#received(message));
    this.channel.on("presence", (presence) => (this.presence.value = presence));
    this.channel.on("gap", () => {
      this.#stretch += 1;
      void this.loadHistory();
    });
    this.channel.on("signal", ({ event, from }) => {
      if (event === "typing" && from.user !== this.#connection.welcome.value?.user) this.#isTyping(from);
    });
    void this.channel.subscribe({ presence: true }).then(
      () => this.loadHistory(),
      () => (this.history.value = "refused"),
    );
  }

  /** Fetches the newest page again; what is live or on its way stays. */
  async loadHistory(): Promise<void> {
    this.history.value = "loading";
    try {
      const { messages } = await this.channel.history({ limit: PAGE });
      batch(() => {
        this.#merge(messages.map((message) => this.#sentLine(message)));
        this.history.value = "loaded";
      });
    } catch {
      this.history.value = "failed";
    }
  }

  /** Shows the line at once; its status follows the ack. */
  send(text: string): void {
    const { user = "me" } = this.#connection.welcome.value ?? {};
    const from = { user, name: this.#connection.name.value };
    const id = newId();
    const line: Line = { key: id, id, text, from, at: Date.now(), stretch: this.#stretch, status: "pending" };
    this.#toldTypingAt = -Infinity;
    this.#merge([line]);
    this.#publish(line);
  }

  retry(line: Line): void {
    this.#update(line.id, { status: "pending" });
    this.#publish(line);
  }

  dismiss(line: Line): void {
    this.lines.value = this.lines.value.filter(({ key }) => key !== line.key);
  }

  /** To be called on each key; others are told now and then. */
  tellTyping(): void {
    const now = performance.now();
    if (this.#connection.state.value.status !== "online" || now - this.#toldTypingAt < TYPING_MS / 2) return;
    this.#toldTypingAt = now;
    this.channel.signal("typing").catch(() => undefined);
  }

  #publish({ id, text }: Line): void {
    this.channel.publish({ text }, { id }).then(
      ({ seq, at }) => {
        this.#update(id, { status: "sent", at, stretch: this.#stretch, ...(seq !== undefined && { seq }) });
      },
      (error: XpushError) => this.#update(id, { status: "failed", error: error.message }),
    );
  }

  #received(message: Message): void {
    batch(() => {
      this.#notTyping(message.from.user);
      this.#merge([this.#sentLine(message)]);
    });
  }

  #update(id: string, change: Partial<Line>): void {
    this.lines.value = ordered(this.lines.value.map((line) => (line.id === id ? { ...line, ...change } : line)));
  }

  /** An own message may come back before its ack, and both before or after the history page: the id tells. */
  #merge(lines: readonly Line[]): void {
    const byId = new Map(this.lines.value.map((line) => [line.id, line]));
    for (const line of lines) {
      const known = byId.get(line.id);
      byId.set(line.id, known?.seq !== undefined ? known : { ...line, key: known?.key ?? line.key });
    }
    this.lines.value = ordered([...byId.values()]).slice(-KEPT);
  }

  #sentLine({ id, from, data, at, seq }: Message): Line {
    const line = { key: `${from.user}/${id}`, id, text: textOf(data), from, at, stretch: this.#stretch };
    return { ...line, status: "sent", ...(seq !== undefined && { seq }) };
  }

  #isTyping(person: Person): void {
    clearTimeout(this.#typingTimers.get(person.user));
    this.#typingTimers.set(person.user, setTimeout(() => this.#notTyping(person.user), TYPING_MS));
    this.typing.value = [...this.typing.value.filter(({ user }) => user !== person.user), person];
  }

  #notTyping(user: string): void {
    clearTimeout(this.#typingTimers.get(user));
    this.#typingTimers.delete(user);
    if (this.typing.value.some((person) => person.user === user)) {
      this.typing.value = this.typing.value.filter((person) => person.user !== user);
    }
  }
}

/** By place in the channel; what has none yet stands at the end, in the order it was sent. */
function ordered(lines: readonly Line[]): Line[] {
  const placed = lines.filter(({ seq }) => seq !== undefined);
  placed.sort((a, b) => a.stretch - b.stretch || (a.seq ?? 0) - (b.seq ?? 0));
  return [...placed, ...lines.filter(({ seq }) => seq === undefined)];
}

/** Any client may publish anything: `{text}`, a plain string, or else its JSON. */
function textOf(data: unknown): string {
  if (typeof data === "string") return data;
  if (typeof data === "object" && data !== null && "text" in data && typeof data.text === "string") return data.text;
  return JSON.stringify(data) ?? "";
}
