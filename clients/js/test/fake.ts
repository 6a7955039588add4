import { Client, XpushError, type ClientOptions } from "../src/index.ts";
import type { Answer, Credentials, Link, LinkEvents, OpenLink, Person } from "../src/index.ts";
import type { Emitter } from "../src/emitter.ts";

/** A command that the fake server has received and not answered yet. */
export interface Received {
  readonly command: string;
  readonly fields: Record<string, unknown>;
  /** When, by `performance.now()`. */
  readonly at: number;
  ok(ok?: object): void;
  error(code: string, retry: "no" | "now" | "later" | "reconnect"): void;
}

/** The server's end of one connection. */
export class FakeLink implements Link {
  readonly url: string;
  readonly credentials: Credentials;
  readonly events: LinkEvents;
  readonly received: Received[] = [];
  readonly #pending = new Set<(answer: Answer) => void>();
  /** By channel, the subscribes that were not answered yet. */
  readonly #joining = new Map<unknown, Received>();
  dropped = false;
  #cut = false;

  constructor(url: string, credentials: Credentials, events: LinkEvents) {
    this.url = url;
    this.credentials = { ...credentials };
    this.events = events;
  }

  request(command: string, fields: object, timeoutMs: number, done: (answer: Answer) => void): void {
    const answer = (value: Answer) => {
      clearTimeout(timer);
      if (this.#pending.delete(answer)) done(value);
    };
    const timer = setTimeout(() => answer({ error: new XpushError("timeout", command, "now") }), timeoutMs);
    this.#pending.add(answer);
    const received: Received = {
      command,
      fields: fields as Record<string, unknown>,
      at: performance.now(),
      ok: (ok = {}) => answer({ ok }),
      error: (code, retry) => answer({ error: { code, message: code, retry } }),
    };
    const { channel } = received.fields;
    if (command === "subscribe" || command === "unsubscribe") this.#joining.get(channel)?.error("cancelled", "no");
    if (command === "subscribe") this.#joining.set(channel, received);
    this.received.push(received);
  }

  /** The server takes the connection, and says so. */
  accept(told: { rate?: number } = {}): void {
    this.events.up("websocket");
    this.welcome(told);
  }

  welcome({ rate }: { rate?: number } = {}): void {
    this.events.push("welcome", { app: "demo", user: "me", node: "n1", guest: true, ...(rate !== undefined && { rate }) });
  }

  drop(): void {
    this.dropped = true;
    if (this.#cut) return;
    const lost = new XpushError("disconnected", "dropped", "reconnect");
    for (const answer of [...this.#pending]) answer({ error: lost });
  }

  /** The network is lost. Socket.IO says so first, and then of each command that it is not answered. */
  cut(): void {
    this.#cut = true;
    this.events.down(new XpushError("disconnected", "transport close", "reconnect"));
    this.#cut = false;
    this.drop();
  }

  /** The oldest command of that name that was not taken yet. */
  take(command: string): Received {
    const index = this.received.findIndex((received) => received.command === command);
    const [received] = index < 0 ? [] : this.received.splice(index, 1);
    if (!received) throw new Error(`no ${command} received`);
    return received;
  }

  commands(): string[] {
    return this.received.map(({ command }) => command);
  }

  message(channel: string, seq: number, epoch = "e1", from: Person = { user: "ann" }): void {
    const body = { channel, epoch, seq, id: `m${seq}`, event: "message", data: seq, from, at: 1 };
    this.events.push("message", body);
  }
}

/** A server that takes every connection and lets the test answer. */
export class FakeServer {
  readonly links: FakeLink[] = [];

  readonly open: OpenLink = (url, credentials, events) => {
    const link = new FakeLink(url, credentials, events);
    this.links.push(link);
    return link;
  };

  client(options: ClientOptions = {}): Client {
    return new Client("http://home", { open: this.open, storage: null, ...options });
  }

  get link(): FakeLink {
    const link = this.links.at(-1);
    if (!link) throw new Error("nobody has connected");
    return link;
  }

  /** Accepts the newest connection. */
  accept(told: { rate?: number } = {}): FakeLink {
    const { link } = this;
    link.accept(told);
    return link;
  }
}

/** Keeps every such event. */
export function collect<Events extends object, Name extends keyof Events>(
  from: Emitter<Events>,
  name: Name,
): Events[Name][] {
  const events: Events[Name][] = [];
  from.on(name, (event) => events.push(event));
  return events;
}

/** Lets promises settle; takes no time. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
}
