import { signal, type ReadonlySignal } from "@preact/signals";
import { connect, type Client, type State, type Welcome } from "@xpush/client";
import { keepName, visitorName, windowStorage } from "./visitor.ts";

/** Seconds of latency that are kept. */
export const LATENCY_SECONDS = 60;

const SECOND = 1_000;

/** A loss shorter than this is over before it could be read. */
const PATIENCE_MS = 400;

/** This page's connection, as signals. */
export class Connection {
  readonly client: Client;
  readonly state: ReadonlySignal<State>;
  readonly welcome: ReadonlySignal<Welcome | undefined>;
  readonly name: ReadonlySignal<string>;
  /** There has been no connection for long enough to say so. */
  readonly away: ReadonlySignal<boolean>;
  /** One round trip a second in ms, oldest first; `undefined` where there was none. */
  readonly latency: ReadonlySignal<readonly (number | undefined)[]>;
  readonly #name = signal(visitorName());
  readonly #latency = signal<readonly (number | undefined)[]>(Array<undefined>(LATENCY_SECONDS).fill(undefined));
  #sampledAt = performance.now();

  constructor() {
    this.client = connect(location.origin, { name: this.#name.value, storage: windowStorage, assign: true });
    const state = signal(this.client.state);
    const welcome = signal(this.client.welcome);
    const away = signal(false);
    let patience: ReturnType<typeof setTimeout> | undefined;
    this.client.on("state", (next) => {
      state.value = next;
      if (next.status === "online") {
        clearTimeout(patience);
        patience = undefined;
        away.value = false;
      } else {
        patience ??= setTimeout(() => (away.value = true), PATIENCE_MS);
      }
    });
    this.client.on("welcome", (next) => (welcome.value = next));
    this.state = state;
    this.welcome = welcome;
    this.away = away;
    this.name = this.#name;
    this.latency = this.#latency;
    setInterval(() => void this.#sample(), SECOND);
    addEventListener("online", () => this.client.retryNow());
  }

  rename(name: string): void {
    if (name === this.#name.value) return;
    this.#name.value = name;
    keepName(name);
    this.client.rename(name);
  }

  async #sample(): Promise<void> {
    const sample = await this.client.ping().catch(() => undefined);
    // A hidden page's timers are slowed down: the seconds in between had no sample, and are shown so.
    const now = performance.now();
    const steps = Math.min(LATENCY_SECONDS, Math.max(1, Math.round((now - this.#sampledAt) / SECOND)));
    this.#sampledAt = now;
    const skipped = Array<undefined>(steps - 1).fill(undefined);
    this.#latency.value = [...this.#latency.value, ...skipped, sample].slice(-LATENCY_SECONDS);
  }
}
