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

/** How many other channels' servers are asked for along with our own, when that cannot be reached: the session server may not know yet that it is gone. */
const OTHERS = 8;

/** Asks the session server at `home`. A client has one connection: it is made where its first channel is. */
export const askSessionServer: Assign = async (home, app, channels, unreached) => {
  const url = new URL("/api/v1/assign", home);
  if (app !== undefined) url.searchParams.set("app", app);
  // Who follows nothing goes anywhere: clients without channels spread over all servers.
  url.searchParams.set("channel", channels[0] ?? newId());
  if (unreached !== undefined) for (let n = 0; n < OTHERS; n++) url.searchParams.append("channel", newId());
  let body: { ok?: { channels?: readonly Assigned[] }; error?: ErrorBody };
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_TIMEOUT), cache: "no-store" });
    body = await response.json();
  } catch (error) {
    throw new XpushError("unreachable", error instanceof Error ? error.message : "no answer", "later");
  }
  if (body.error) throw XpushError.from(body.error);
  const answers = body.ok?.channels ?? [];
  // Any server can carry any channel.
  const assigned = answers.find((answer) => (answer.url || home) !== unreached) ?? answers[0];
  if (!assigned) throw new XpushError("unreachable", "no channel server is assigned", "later");
  return assigned.url || home;
};
