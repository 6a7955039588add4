import { backoffDelay, type Backoff } from "./backoff.ts";
import { XpushError, type Answer } from "./protocol.ts";

/** What takes a place in a channel; `id` makes it safe to send again. */
export interface Entry {
  readonly command: "publish" | "edit" | "delete";
  readonly fields: { readonly id: string; readonly [field: string]: unknown };
}

/** What an outbox needs of the connection. */
export interface Carrier {
  readonly online: boolean;
  /** Who we are; undefined before the first connection. */
  readonly user: string | undefined;
  command(name: string, fields: object, done: (answer: Answer) => void): void;
  reconnect(): void;
}

interface Waiting extends Entry {
  sent: boolean;
  resolve(ok: unknown): void;
  reject(error: XpushError): void;
}

/** Unanswered publishes under way at once; enough to fill a slow link, small enough to be sent again. */
const WINDOW = 32;

/**
 * One channel's publishes, edits and deletions that are not acked yet, oldest first. They go out in order; when one has to be tried again, those
 * behind it wait for the answers still under way and then go again after it, each by its first id, so that the server
 * stores none twice.
 */
export class Outbox {
  readonly #carrier: Carrier;
  readonly #limit: number;
  readonly #backoff: Backoff;
  readonly #entries: Waiting[] = [];
  #underWay = 0;
  #attempts = 0;
  /** Why nothing may be sent until every answer under way has come. */
  #setback: XpushError | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(carrier: Carrier, limit: number, backoff: Backoff) {
    this.#carrier = carrier;
    this.#limit = limit;
    this.#backoff = backoff;
  }

  /** Resolves when the server has acked the entry; rejects when it never will. */
  add<Ok>(entry: Entry): Promise<Ok> {
    if (this.#entries.length >= this.#limit) {
      const message = `${this.#limit} messages are waiting already`;
      return Promise.reject(new XpushError("queue_full", message, "later"));
    }
    return new Promise((resolve, reject) => {
      this.#entries.push({ ...entry, sent: false, resolve: (ok) => resolve(ok as Ok), reject });
      this.#flush();
    });
  }

  /** A new connection is up: what waited for it, or for a next attempt, goes now. */
  connected(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#flush();
  }

  /** Rejects everything that waits: the client is closed. */
  fail(error: XpushError): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const entry of this.#entries.splice(0)) entry.reject(error);
  }

  #flush(): void {
    if (!this.#carrier.online || this.#setback || this.#timer) return;
    for (const entry of this.#entries) {
      if (this.#underWay >= WINDOW) return;
      if (!entry.sent) this.#send(entry);
    }
  }

  #send(entry: Waiting): void {
    entry.sent = true;
    this.#underWay += 1;
    this.#carrier.command(entry.command, entry.fields, (answer) => this.#answered(entry, answer));
  }

  #answered(entry: Waiting, answer: Answer): void {
    this.#underWay -= 1;
    if ("ok" in answer) {
      this.#attempts = 0;
      this.#remove(entry);
      entry.resolve(answer.ok);
    } else if (answer.error.retry === "no") {
      this.#remove(entry);
      entry.reject(XpushError.from(answer.error));
    } else {
      entry.sent = false;
      this.#setback ??= XpushError.from(answer.error);
    }
    if (!this.#setback) this.#flush();
    else if (this.#underWay === 0) this.#tryAgain(this.#setback);
  }

  #tryAgain(setback: XpushError): void {
    this.#setback = undefined;
    if (setback.retry === "reconnect") {
      // Nothing to do after `disconnected`: `connected` sends it all again.
      if (this.#carrier.online) this.#carrier.reconnect();
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, backoffDelay(this.#backoff, this.#attempts++));
  }

  #remove(entry: Waiting): void {
    const index = this.#entries.indexOf(entry);
    if (index >= 0) this.#entries.splice(index, 1);
  }
}
