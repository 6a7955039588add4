/** How much of the server's rate is used: commands that leave one after the other may arrive together, and pings count, too. */
const SHARE = 0.9;

/** The server's bucket holds what may be sent in so many seconds. */
const BURST_S = 2;

/**
 * How fast commands go out on one connection: the server's token bucket, a little smaller, so that it refuses nothing. All commands
 * take from it; those that can wait do so while it is empty, and until the server has told its rate.
 */
export class Pace {
  /** Commands a second; undefined until it is told. */
  #rate: number | undefined;
  #tokens = 0;
  /** Commands that went before the rate was told. */
  #early = 0;
  #at = 0;
  readonly #waiting = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** What the server's welcome says; absent or 0: there is no bound. */
  told(rate = 0): void {
    this.#rate = rate > 0 ? SHARE * rate : Infinity;
    this.#tokens = Math.max(0, BURST_S * this.#rate - this.#early);
    this.#at = performance.now();
    clearTimeout(this.#timer);
    this.#wake();
  }

  /** A command goes. What cannot wait goes in any case; of an empty bucket the server takes nothing either. */
  take(): void {
    if (this.#rate === undefined) this.#early += 1;
    else this.#tokens = Math.max(0, this.#filled() - 1);
  }

  /** Whether a command that can wait may go now. If not, `again` is called when it is worth asking again. */
  ready(again: () => void): boolean {
    if (this.#filled() >= 1) return true;
    this.#waiting.add(again);
    this.#plan();
    return false;
  }

  /** The connection is over: who waits is to ask the next one. */
  end(): void {
    clearTimeout(this.#timer);
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const again of waiting) again();
  }

  #filled(): number {
    if (this.#rate === undefined || this.#rate === Infinity) return this.#tokens;
    const now = performance.now();
    const grown = ((now - this.#at) * this.#rate) / 1_000;
    this.#at = now;
    this.#tokens = Math.min(BURST_S * this.#rate, this.#tokens + grown);
    return this.#tokens;
  }

  /** One after the other: who takes what there is and wants more waits behind the others. */
  #wake(): void {
    this.#timer = undefined;
    for (const again of this.#waiting) {
      if (this.#filled() < 1) break;
      this.#waiting.delete(again);
      again();
    }
    this.#plan();
  }

  #plan(): void {
    if (this.#timer !== undefined || this.#waiting.size === 0 || this.#rate === undefined) return;
    const missing = Math.max(0, 1 - this.#filled());
    this.#timer = setTimeout(() => this.#wake(), Math.ceil((missing * 1_000) / this.#rate));
  }
}
