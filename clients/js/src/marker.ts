import type { Backoff } from "./backoff.ts";
import type { Carrier } from "./outbox.ts";
import { XpushError, type Marker } from "./protocol.ts";
import { WaitingList, type Waiting } from "./waiting.ts";

/** How a marker can be moved. */
export type Mark = "read" | "delivered";

interface Wish extends Waiting {
  readonly seq: number;
  resolve(marker: Marker): void;
}

/**
 * Moves one's own marker in a channel. As it only moves forward, just the furthest wish is sent: what is asked for while
 * offline, or while an answer is under way, goes as one command.
 */
export class MarkerMover extends WaitingList<Wish> {
  readonly #mark: Mark;
  readonly #channel: string;
  readonly #carrier: Carrier;
  #underWay = false;

  constructor(mark: Mark, channel: string, carrier: Carrier, backoff: Backoff) {
    super(backoff);
    this.#mark = mark;
    this.#channel = channel;
    this.#carrier = carrier;
  }

  /** Resolves with the marker once it stands at `seq` or beyond. */
  advance(seq: number): Promise<Marker> {
    return new Promise((resolve, reject) => {
      this.entries.push({ seq, resolve, reject });
      this.flush();
    });
  }

  protected flush(): void {
    if (this.#underWay || this.pausing || this.entries.length === 0 || !this.#carrier.online) return;
    const seq = Math.max(...this.entries.map((wish) => wish.seq));
    this.#underWay = true;
    this.#carrier.command(this.#mark, { channel: this.#channel, seq }, (answer) => {
      this.#underWay = false;
      if ("ok" in answer) {
        this.succeeded();
        for (const { resolve } of this.#take(seq)) resolve(answer.ok as Marker);
        this.flush();
        return;
      }
      const error = XpushError.from(answer.error);
      if (error.retry === "no") {
        for (const { reject } of this.#take(seq)) reject(error);
        this.flush();
      } else if (error.retry === "reconnect") {
        // After `disconnected` the next connection flushes.
        if (this.#carrier.online) this.#carrier.reconnect();
      } else {
        this.pause();
      }
    });
  }

  /** Removes those that a marker at `seq` satisfies. */
  #take(seq: number): Wish[] {
    const taken = this.entries.filter((wish) => wish.seq <= seq);
    this.entries = this.entries.filter((wish) => wish.seq > seq);
    return taken;
  }
}
