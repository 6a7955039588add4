import { signal } from "@preact/signals";
import { connect, XpushError, type Client, type State } from "@xpush/client";
import * as api from "./api.ts";
import { Failure } from "./session.ts";

/** Lines that are kept. */
const KEPT = 500;

/** How often what has come is shown. */
const FRAME_MS = 250;

export interface TailLine {
  key: number;
  kind: "message" | "edit" | "delete" | "signal" | "gap";
  at: number;
  event?: string;
  from?: { user: string; name?: string | undefined };
  data?: unknown;
  seq?: number | undefined;
  target?: number;
}

/** What happens in a channel from now on, as somebody who only listens. */
export class Tail {
  readonly lines = signal<readonly TailLine[]>([]);
  readonly state = signal<State>({ status: "connecting", attempt: 0 });
  readonly refused = signal<string | undefined>();
  readonly listening = signal(false);
  /** Nothing is added as long as somebody reads. */
  readonly paused = signal(false);
  /** What waits meanwhile. */
  readonly held = signal(0);
  readonly #client: Client;
  readonly #timer: ReturnType<typeof setInterval>;
  #fresh: TailLine[] = [];
  #last = 0;

  constructor(app: string, name: string) {
    this.#client = connect(location.origin, { app, storage: null, assign: false, token: () => ticket(app, name) });
    this.#client.on("state", (state) => {
      this.state.value = state;
      if (state.status !== "online") this.listening.value = false;
      if (state.status === "closed" && state.error) this.refused.value = state.error.message;
    });
    const channel = this.#client.channel(name);
    channel.on("subscribed", () => (this.listening.value = true));
    channel.on("message", ({ at, event, from, data, seq }) => this.#add({ kind: "message", at, event, from, data, seq }));
    channel.on("edit", ({ at, from, data, seq, target }) => this.#add({ kind: "edit", at, from, data, seq, target }));
    channel.on("delete", ({ at, from, seq, target }) => this.#add({ kind: "delete", at, from, seq, target }));
    channel.on("signal", ({ event, from, data }) => this.#add({ kind: "signal", at: Date.now(), event, from, data }));
    channel.on("gap", () => this.#add({ kind: "gap", at: Date.now() }));
    channel.subscribe().catch((error: Error) => (this.refused.value = error.message));
    this.#timer = setInterval(() => this.#show(), FRAME_MS);
  }

  pause(on: boolean): void {
    this.paused.value = on;
    this.#show();
  }

  clear(): void {
    this.#fresh = [];
    this.held.value = 0;
    this.lines.value = [];
  }

  close(): void {
    clearInterval(this.#timer);
    this.#client.close();
  }

  #add(line: Omit<TailLine, "key">): void {
    this.#fresh.push({ ...line, key: ++this.#last });
    if (this.#fresh.length > KEPT) this.#fresh.shift();
  }

  #show(): void {
    if (this.paused.value) {
      this.held.value = this.#fresh.length;
      return;
    }
    this.held.value = 0;
    if (this.#fresh.length === 0) return;
    this.lines.value = [...this.lines.value, ...this.#fresh].slice(-KEPT);
    this.#fresh = [];
  }
}

async function ticket(app: string, channel: string): Promise<string> {
  try {
    return (await api.ticket(app, channel)).token;
  } catch (error) {
    const { code, message, status } = error instanceof Failure ? error : new Failure(0, { code: "internal", message: String(error) });
    throw new XpushError(code, message, status >= 400 && status < 500 ? "no" : "later");
  }
}
