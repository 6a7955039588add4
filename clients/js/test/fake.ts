import { Client, XpushError, type ClientOptions } from "../src/index.ts";
import type { Answer, Credentials, Link, LinkEvents, OpenLink, Person } from "../src/index.ts";
import type { Emitter } from "../src/emitter.ts";

/** A command that the fake server has received and not answered yet. */
export interface Received {
  readonly command: string;
  readonly fields: Record<string, unknown>;
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
  dropped = false;

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
    this.received.push({
      command,
      fields: fields as Record<string, unknown>,
      ok: (ok = {}) => answer({ ok }),
      error: (code, retry) => answer({ error: { code, message: code, retry } }),
    });
  }

  drop(): void {
    this.dropped = true;
    const lost = new XpushError("disconnected", "dropped", "reconnect");
    for (const answer of [...this.#pending]) answer({ error: lost });
  }

  /** The network is lost. */
  cut(): void {
    this.events.down(new XpushError("disconnected", "transport close", "reconnect"));
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
  accept(): FakeLink {
    this.link.events.up("websocket");
    return this.link;
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
