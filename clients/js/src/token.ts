import { XpushError } from "./protocol.ts";

/**
 * Why a token is asked for: to connect (or subscribe) with, because the present one is about to expire, or because the last
 * one was refused as expired.
 */
export type TokenReason = "connect" | "expiring" | "expired";

/**
 * A token, or what brings one whenever it is needed: from one's own back end, or {@link Account.token}. Without a token, one
 * is a guest. An error of `retry: "no"` ends the attempts; after any other they go on.
 */
export type TokenSource = string | ((reason: TokenReason) => string | undefined | Promise<string | undefined>);

/** What `source` brings; rejects with an {@link XpushError} only. */
export async function takeToken(source: TokenSource, reason: TokenReason): Promise<string | undefined> {
  if (typeof source === "string") return source;
  try {
    return await source(reason);
  } catch (error) {
    if (error instanceof XpushError) throw error;
    throw new XpushError("no_token", error instanceof Error ? error.message : String(error), "later");
  }
}
