import { signal, type ReadonlySignal } from "@preact/signals";
import { connect, type Client, type Shown, type State, type Welcome } from "@xpush/client";
import { keepName, visitorName, windowStorage } from "./visitor.ts";

/** Seconds of latency that are kept. */
export const LATENCY_SECONDS = 60;

const SECOND = 1_000;

/** This page's connection, as signals. */
export class Connection {
  readonly client: Client;
  readonly state: ReadonlySignal<State>;
  readonly welcome: ReadonlySignal<Welcome | undefined>;
  readonly name: ReadonlySignal<string>;
  /** The same, as it is to be shown. */
  readonly shown: ReadonlySignal<Shown>;
  /** One round trip a second in ms, oldest first; `undefined` where there was none. */
  readonly latency: ReadonlySignal<readonly (number | undefined)[]>;
  readonly #name = signal(visitorName());
  readonly #latency = signal<readonly (number | undefined)[]>(Array<undefined>(LATENCY_SECONDS).fill(undefined));
  #sampledAt = performance.now();

  constructor() {
    this.client = connect(location.origin, { name: this.#name.value, storage: windowStorage, assign: true });
    const state = signal(this.client.state);
    const welcome = signal(this.client.welcome);
    const shown = signal(this.client.connection);
    this.client.on("state", (next) => (state.value = next));
    this.client.on("connection", (next) => (shown.value = next));
    this.client.on("welcome", (next) => (welcome.value = next));
    this.state = state;
    this.welcome = welcome;
    this.shown = shown;
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
