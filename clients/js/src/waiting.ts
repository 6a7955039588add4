import { backoffDelay, type Backoff } from "./backoff.ts";
import type { XpushError } from "./protocol.ts";

/** Somebody who waits for an answer of the server. */
export interface Waiting {
  reject(error: XpushError): void;
}

/** What waits for a connection or for the next attempt, oldest first. */
export abstract class WaitingList<Entry extends Waiting> {
  protected entries: Entry[] = [];
  readonly #backoff: Backoff;
  #attempts = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(backoff: Backoff) {
    this.#backoff = backoff;
  }

  /** A new connection is up: what waited for it, or for a next attempt, goes now. */
  connected(): void {
    this.#clear();
    this.flush();
  }

  /** Rejects everything that waits: the client is closed. */
  fail(error: XpushError): void {
    this.#clear();
    for (const entry of this.entries.splice(0)) entry.reject(error);
  }

  /** Sends what may be sent now. */
  protected abstract flush(): void;

  /** The next attempt is not due yet. */
  protected get pausing(): boolean {
    return this.#timer !== undefined;
  }

  /** It went well: the next pause is a short one. */
  protected succeeded(): void {
    this.#attempts = 0;
  }

  /** Tries again after a while, each time a longer one. */
  protected pause(): void {
    this.#timer = setTimeout(() => this.connected(), backoffDelay(this.#backoff, this.#attempts++));
  }

  #clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
