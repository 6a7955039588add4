import type { Backoff } from "./backoff.ts";
import { XpushError, type Answer } from "./protocol.ts";
import { WaitingList, type Waiting } from "./waiting.ts";

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
  /** The connection that commands go by; each one is another. */
  readonly link: unknown;
  /** Whether an entry may go now. If not, `again` is called when it is worth asking again. */
  ready(again: () => void): boolean;
  command(name: string, fields: object, done: (answer: Answer) => void): void;
  reconnect(): void;
}

interface Unacked extends Entry, Waiting {
  sent: boolean;
  resolve(ok: unknown): void;
}

/** Unanswered publishes under way at once; enough to fill a slow link, small enough to be sent again. */
const WINDOW = 32;

/**
 * One channel's publishes, edits and deletions that are not acked yet, oldest first. They go out in order; when one has to be tried again, those
 * behind it wait for the answers still under way and then go again after it, each by its first id, so that the server
 * stores none twice. When the server takes no more for now, they wait here, in order.
 */
export class Outbox extends WaitingList<Unacked> {
  readonly #carrier: Carrier;
  readonly #limit: number;
  readonly #again = (): void => this.flush();
  #underWay = 0;
  /** By which connection the last one went. */
  #link: unknown;
  /** Why nothing may be sent until every answer under way has come. */
  #setback: XpushError | undefined;

  constructor(carrier: Carrier, limit: number, backoff: Backoff) {
    super(backoff);
    this.#carrier = carrier;
    this.#limit = limit;
  }

  /** Resolves when the server has acked the entry; rejects when it never will. */
  add<Ok>(entry: Entry): Promise<Ok> {
    if (this.entries.length >= this.#limit) {
      const message = `${this.#limit} messages are waiting already`;
      return Promise.reject(new XpushError("queue_full", message, "later"));
    }
    return new Promise((resolve, reject) => {
      this.entries.push({ ...entry, sent: false, resolve: (ok) => resolve(ok as Ok), reject });
      this.flush();
    });
  }

  protected flush(): void {
    if (!this.#carrier.online || this.#setback || this.pausing) return;
    // What went by another connection is answered, or lost, before anything follows it by this one.
    if (this.#underWay > 0 && this.#link !== this.#carrier.link) return;
    for (const entry of this.entries) {
      if (this.#underWay >= WINDOW) return;
      if (entry.sent) continue;
      if (!this.#carrier.ready(this.#again)) return;
      this.#send(entry);
    }
  }

  #send(entry: Unacked): void {
    entry.sent = true;
    this.#link = this.#carrier.link;
    this.#underWay += 1;
    this.#carrier.command(entry.command, entry.fields, (answer) => this.#answered(entry, answer));
  }

  #answered(entry: Unacked, answer: Answer): void {
    this.#underWay -= 1;
    if ("ok" in answer) {
      this.succeeded();
      this.#remove(entry);
      entry.resolve(answer.ok);
    } else if (answer.error.retry === "no") {
      this.#remove(entry);
      entry.reject(XpushError.from(answer.error));
    } else {
      entry.sent = false;
      this.#setback ??= XpushError.from(answer.error);
    }
    if (!this.#setback) this.flush();
    else if (this.#underWay === 0) this.#tryAgain(this.#setback);
  }

  #tryAgain(setback: XpushError): void {
    this.#setback = undefined;
    if (setback.retry === "reconnect") {
      // Nothing to do after `disconnected`: `connected` sends it all again.
      if (this.#carrier.online) this.#carrier.reconnect();
      return;
    }
    this.pause();
  }

  #remove(entry: Unacked): void {
    const index = this.entries.indexOf(entry);
    if (index >= 0) this.entries.splice(index, 1);
  }
}
