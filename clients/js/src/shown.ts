import type { State } from "./client.ts";
import type { XpushError } from "./protocol.ts";

/** The connection as a person is to be told of it: what is over before it could be read is not in it. */
export type Shown =
  /** For the first time. */
  | { readonly status: "connecting" }
  | { readonly status: "connected" }
  /** Still connected: the server has asked us to go to another one, and that connection is being made. */
  | { readonly status: "moving" }
  /** Since then, in ms since 1970; the next attempt is at `retryAt`, after `delay` ms in all, or under way without them. */
  | {
      readonly status: "reconnecting";
      readonly since: number;
      readonly attempt: number;
      readonly retryAt?: number;
      readonly delay?: number;
      readonly error?: XpushError;
    }
  | { readonly status: "paused" }
  | { readonly status: "closed"; readonly error?: XpushError };

/** A loss, or an attempt, that takes no longer is not shown, in ms. */
const PATIENCE = 400;

/** Makes of a client's states what is to be shown. */
export class Showing {
  #shown: Shown = { status: "connecting" };
  /** What is so, while a change of it is not shown yet. */
  #next: Shown | undefined;
  #lostAt: number | undefined;
  #error: XpushError | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** It has been connected, or has failed to be. */
  #begun = false;
  readonly #tell: (shown: Shown) => void;

  constructor(tell: (shown: Shown) => void) {
    this.#tell = tell;
  }

  get shown(): Shown {
    return this.#shown;
  }

  see(state: State, moving: boolean): void {
    const next = this.#read(state, moving);
    if (this.#isHasty(next)) {
      this.#next = next;
      this.#timer ??= setTimeout(() => this.#show(this.#next ?? next), PATIENCE);
    } else {
      this.#show(next);
    }
  }

  /** Whether this may be over in a moment: a connection that is lost just now, or an attempt that has just begun. */
  #isHasty(next: Shown): boolean {
    if (next.status !== "reconnecting") return false;
    const { status } = this.#shown;
    return status === "connected" || status === "moving" || (status !== "connecting" && next.retryAt === undefined);
  }

  #show(next: Shown): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#next = undefined;
    if (next.status === this.#shown.status && next.status !== "reconnecting") return;
    this.#shown = next;
    this.#tell(next);
  }

  #read(state: State, moving: boolean): Shown {
    switch (state.status) {
      case "online":
        this.#begun = true;
        this.#lostAt = this.#error = undefined;
        return { status: moving ? "moving" : "connected" };
      case "connecting":
        return this.#begun ? this.#away(state.attempt) : { status: "connecting" };
      case "waiting": {
        this.#begun = true;
        this.#error = state.error;
        const delay = Math.max(0, state.retryAt - Date.now());
        return { ...this.#away(state.attempt), retryAt: state.retryAt, delay };
      }
      case "paused":
        return { status: "paused" };
      case "closed":
        return state.error ? { status: "closed", error: state.error } : { status: "closed" };
    }
  }

  #away(attempt: number): Shown & { status: "reconnecting" } {
    const since = (this.#lostAt ??= Date.now());
    return { status: "reconnecting", since, attempt, ...(this.#error && { error: this.#error }) };
  }
}
