import { newId, XpushError, type ErrorBody } from "./protocol.ts";

/**
 * Finds the address of the channel server that clients of these channels should use. `channels` may be empty. At `unreached` nobody has answered just now:
 * another address is better, if there is one.
 */
export type Assign = (home: string, app: string | undefined, channels: readonly string[], unreached?: string) => Promise<string>;

/** One of the answer's to `GET /api/v1/assign`. */
interface Assigned {
  readonly channel: string;
  /** Empty: where one has asked. */
  readonly url: string;
  readonly node: string;
  readonly reason: string;
}

/** The session server may accept a request and never answer it. */
const ANSWER_TIMEOUT = 5_000;

/** For how long a server is avoided that could not be reached, in ms: by then it is back, or known to be gone. */
const AVOIDED = 10_000;

/**
 * Asks the session server at `home`. A client has one connection: it is made where its first channel is. The server may not know yet that another one is gone, so it is told
 * which one could not be reached.
 */
export function sessionServer(): Assign {
  /** Which server was said to be at which address. */
  const nodes = new Map<string, string>();
  /** Those that could not be reached, and when. */
  const unreachable = new Map<string, number>();
  return async (home, app, channels, unreached) => {
    const url = new URL("/api/v1/assign", home);
    if (app !== undefined) url.searchParams.set("app", app);
    // Who follows nothing goes anywhere: clients without channels spread over all servers.
    url.searchParams.set("channel", channels[0] ?? newId());
    const now = Date.now();
    const node = unreached === undefined ? undefined : nodes.get(unreached);
    if (node !== undefined) unreachable.set(node, now);
    for (const [dead, since] of unreachable) {
      if (now - since < AVOIDED) url.searchParams.append("not", dead);
      else unreachable.delete(dead);
    }
    let body: { ok?: { channels?: readonly Assigned[] }; error?: ErrorBody };
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_TIMEOUT), cache: "no-store" });
      body = await response.json();
    } catch (error) {
      throw new XpushError("unreachable", error instanceof Error ? error.message : "no answer", "later");
    }
    if (body.error) throw XpushError.from(body.error);
    const assigned = body.ok?.channels?.[0];
    if (!assigned) throw new XpushError("unreachable", "no channel server is assigned", "later");
    const address = assigned.url || home;
    nodes.set(address, assigned.node);
    return address;
  };
}
