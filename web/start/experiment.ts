import { batch, computed, signal } from "@preact/signals";
import { connect, newId, type Channel, type Client, type Message } from "@xpush/client";

/** The stream: a message every 100 ms. */
const EVERY_MS = 100;
const BEFORE_CUT = 13;
/** The cut ends by itself after this many messages. */
const DURING_CUT = 37;
/** The whole stream, so that it is seen to go on live; longer only when coming back took longer. */
export const PLANNED = 60;
/** Longer than this, something is wrong with the server, not with us. */
const LIMIT_MS = 30_000;

export type Phase = "idle" | "starting" | "flowing" | "cut" | "resuming" | "after" | "done" | "failed";

/** How one message of the stream got here. */
export type Arrival = "live" | "missing" | "recovered";

export interface Result {
  readonly missed: number;
  readonly recovered: number;
  readonly inOrder: boolean;
  /** From the end of the cut to the last recovered message, in ms. */
  readonly took: number;
}

/**
 * Cuts this page's connection while a second, independent connection publishes a numbered stream, and counts what came
 * back. Every figure is counted from the positions that arrived here.
 */
export class Experiment {
  readonly phase = signal<Phase>("idle");
  /** The newest position that the stream's publisher had acked. */
  readonly published = signal(0);
  readonly result = signal<Result | undefined>(undefined);
  readonly cells = computed(() => this.#cells());
  readonly tally = computed(() => ({
    sent: this.cells.value.length,
    here: this.#arrivals.value.size,
  }));
  readonly #client: Client;
  readonly #arrivals = signal<ReadonlyMap<number, Arrival>>(new Map());
  #order: number[] = [];
  #run: Run | undefined;

  constructor(client: Client) {
    this.#client = client;
  }

  get running(): boolean {
    return !["idle", "done", "failed"].includes(this.phase.value);
  }

  /** The switch: on starts, off ends the cut before its time. */
  toggle(on: boolean): void {
    if (on && !this.running) this.#start();
    else if (!on && this.phase.value === "cut") this.#comeBack();
    else if (!on && this.running) this.#end("idle");
  }

  #start(): void {
    batch(() => {
      this.#arrivals.value = new Map();
      this.published.value = 0;
      this.result.value = undefined;
      this.phase.value = "starting";
    });
    this.#order = [];
    const name = `chat:cut-${newId().slice(0, 12)}`;
    const traffic = connect(location.origin, { name: "Traffic", storage: null });
    const channel = this.#client.channel(name);
    const run: Run = {
      channel,
      traffic,
      cutAfter: 0,
      head: 0,
      resumedAt: 0,
      timers: [setTimeout(() => this.#end(this.result.value ? "done" : "failed"), LIMIT_MS)],
      listeners: [
        channel.on("message", (message) => this.#received(message)),
        channel.on("subscribed", ({ seq = 0 }) => this.#resumed(seq)),
        channel.on("recovered", () => this.#conclude()),
        channel.on("gap", () => this.#conclude()),
        channel.on("refused", () => this.#end("failed")),
      ],
    };
    this.#run = run;
    channel.subscribe().then(
      () => run === this.#run && this.#flow(run),
      () => run === this.#run && this.#end("failed"),
    );
  }

  /** Starts the stream, which goes on, cut or not, until the experiment ends. */
  #flow(run: Run): void {
    this.phase.value = "flowing";
    const stream = run.traffic.channel(run.channel.name);
    let n = 0;
    const publish = async () => {
      n += 1;
      const { seq = 0 } = await stream.publish({ n });
      if (run !== this.#run) return;
      this.published.value = Math.max(this.published.value, seq);
      this.#step(run);
    };
    const tick = () => {
      if (this.phase.value !== "after" || n < PLANNED) {
        publish().catch(() => run === this.#run && this.#end("failed"));
      } else if (this.#arrivals.value.has(n)) {
        this.#end("done");
      }
    };
    run.timers.push(setInterval(tick, EVERY_MS));
  }

  #step(run: Run): void {
    const here = run.channel.position?.seq ?? 0;
    if (this.phase.value === "flowing" && Math.min(here, this.published.value) >= BEFORE_CUT) {
      run.cutAfter = here;
      this.phase.value = "cut";
      this.#client.pause();
    } else if (this.phase.value === "cut" && this.published.value >= run.cutAfter + DURING_CUT) {
      this.#comeBack();
    }
  }

  #comeBack(): void {
    if (!this.#run) return;
    this.phase.value = "resuming";
    this.#run.resumedAt = performance.now();
    this.#client.resume();
  }

  #resumed(head: number): void {
    if (this.#run && this.phase.value === "resuming") this.#run.head = head;
  }

  #received({ seq }: Message): void {
    const run = this.#run;
    if (!run || seq === undefined) return;
    const back = this.phase.value === "resuming" && seq <= run.head;
    this.#order.push(seq);
    this.#arrivals.value = new Map(this.#arrivals.value).set(seq, back ? "recovered" : "live");
    this.#step(run);
  }

  /** The server has sent all that it still had: what lies between the cut and its head now is counted. */
  #conclude(): void {
    const run = this.#run;
    if (!run || this.phase.value !== "resuming") return;
    const missed = run.head - run.cutAfter;
    const recovered = new Set(this.#order.filter((seq) => seq > run.cutAfter && seq <= run.head)).size;
    const inOrder = this.#order.every((seq, index) => index === 0 || seq > (this.#order[index - 1] ?? 0));
    batch(() => {
      this.result.value = { missed, recovered, inOrder, took: performance.now() - run.resumedAt };
      this.phase.value = "after";
    });
  }

  #end(phase: "idle" | "done" | "failed"): void {
    const run = this.#run;
    this.#run = undefined;
    this.phase.value = phase;
    for (const timer of run?.timers ?? []) clearTimeout(timer);
    for (const stop of run?.listeners ?? []) stop();
    run?.channel.unsubscribe().catch(() => undefined);
    run?.traffic.close();
    this.#client.resume();
  }

  #cells(): Arrival[] {
    // What is published and not here is missing only while we are away; else it is on its way.
    const away = this.phase.value === "cut" || this.phase.value === "resuming";
    const newest = Math.max(away ? this.published.value : 0, ...this.#arrivals.value.keys());
    return Array.from({ length: newest }, (_, index) => this.#arrivals.value.get(index + 1) ?? "missing");
  }
}

interface Run {
  readonly channel: Channel;
  readonly traffic: Client;
  readonly timers: ReturnType<typeof setTimeout>[];
  readonly listeners: (() => void)[];
  /** The last position that was seen before the cut. */
  cutAfter: number;
  /** The channel's newest position when we came back. */
  head: number;
  resumedAt: number;
}
