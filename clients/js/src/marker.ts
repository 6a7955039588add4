import { backoffDelay, type Backoff } from "./backoff.ts";
import type { Carrier } from "./outbox.ts";
import { XpushError, type Marker } from "./protocol.ts";

/** How a marker can be moved. */
export type Mark = "read" | "delivered";

interface Waiting {
  readonly seq: number;
  resolve(marker: Marker): void;
  reject(error: XpushError): void;
}

/**
 * Moves one's own marker in a channel. As it only moves forward, just the furthest wish is sent: what is asked for while
 * offline, or while an answer is under way, goes as one command.
 */
export class MarkerMover {
  readonly #mark: Mark;
  readonly #channel: string;
  readonly #carrier: Carrier;
  readonly #backoff: Backoff;
  #waiting: Waiting[] = [];
  #underWay = false;
  #attempts = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(mark: Mark, channel: string, carrier: Carrier, backoff: Backoff) {
    this.#mark = mark;
    this.#channel = channel;
    this.#carrier = carrier;
    this.#backoff = backoff;
  }

  /** Resolves with the marker once it stands at `seq` or beyond. */
  advance(seq: number): Promise<Marker> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ seq, resolve, reject });
      this.#flush();
    });
  }

  /** A new connection is up. */
  connected(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#flush();
  }

  fail(error: XpushError): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  #flush(): void {
    if (this.#underWay || this.#timer || this.#waiting.length === 0 || !this.#carrier.online) return;
    const seq = Math.max(...this.#waiting.map((waiting) => waiting.seq));
    this.#underWay = true;
    this.#carrier.command(this.#mark, { channel: this.#channel, seq }, (answer) => {
      this.#underWay = false;
      if ("ok" in answer) {
        this.#attempts = 0;
        for (const { resolve } of this.#take(seq)) resolve(answer.ok as Marker);
        this.#flush();
        return;
      }
      const error = XpushError.from(answer.error);
      if (error.retry === "no") {
        for (const { reject } of this.#take(seq)) reject(error);
        this.#flush();
      } else if (error.retry === "reconnect") {
        // After `disconnected` the next connection flushes.
        if (this.#carrier.online) this.#carrier.reconnect();
      } else {
        this.#timer = setTimeout(() => this.connected(), backoffDelay(this.#backoff, this.#attempts++));
      }
    });
  }

  /** Removes those that a marker at `seq` satisfies. */
  #take(seq: number): Waiting[] {
    const taken = this.#waiting.filter((waiting) => waiting.seq <= seq);
    this.#waiting = this.#waiting.filter((waiting) => waiting.seq > seq);
    return taken;
  }
}
