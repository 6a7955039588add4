import type { Link, LinkEvents, OpenLink } from "./link.ts";
import { Pace } from "./pace.ts";
import { XpushError, type Answer, type Credentials } from "./protocol.ts";

/** Something that is known already, or that has to be asked for. */
export type Known<T> = T | (() => Promise<T>);

/** What a dial needs to know before it can open a link. */
export interface Destination {
  readonly address: Known<string>;
  readonly token: Known<string | undefined>;
  credentials(token: string | undefined): Credentials;
}

/** A link from the first thought of it: its address and its token may have to be found first. */
export class Dial implements Link {
  readonly pace = new Pace();
  #link: Link | undefined;
  #dropped = false;

  constructor(open: OpenLink, { address, token, credentials }: Destination, events: LinkEvents) {
    if (typeof address !== "function" && typeof token !== "function") {
      this.#link = open(address, credentials(token), events);
      return;
    }
    Promise.all([found(address), found(token)]).then(
      ([address, token]) => {
        if (!this.#dropped) this.#link = open(address, credentials(token), events);
      },
      (error: XpushError) => {
        if (!this.#dropped) events.down(error);
      },
    );
  }

  request(command: string, fields: object, timeoutMs: number, done: (answer: Answer) => void): void {
    if (this.#link) {
      this.pace.take();
      return this.#link.request(command, fields, timeoutMs, done);
    }
    const error = new XpushError("disconnected", "there is no connection", "reconnect");
    queueMicrotask(() => done({ error }));
  }

  drop(): void {
    this.#dropped = true;
    this.#link?.drop();
    this.pace.end();
  }
}

function found<T>(known: Known<T>): T | Promise<T> {
  return typeof known === "function" ? (known as () => Promise<T>)() : known;
}
