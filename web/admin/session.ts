import { signal } from "@preact/signals";
import type { Complaint, Me } from "./contract.ts";

interface ErrorBody {
  code: string;
  message: string;
}

/** What the server, or the way to it, has refused. */
export class Failure extends Error {
  readonly code: string;
  readonly status: number;
  /** What else the server has said of it. */
  readonly body: { current?: unknown; complaints?: readonly Complaint[] };

  constructor(status: number, error: ErrorBody, body: object = {}) {
    super(error.message);
    this.code = error.code;
    this.status = status;
    this.body = body;
  }
}

/** Who is signed in: `undefined` as long as nobody knows, `null` for nobody. The cookie itself is the browser's. */
export const me = signal<Me | null | undefined>();

/** Why somebody who was signed in is so no more, or nobody can be. */
export const signedOutBecause = signal<string | undefined>();

/** Whether the server waits for its first operator. */
export const needsSetUp = signal(false);

/** Asks who one is. */
export async function arrive(): Promise<void> {
  try {
    me.value = await request<Me>("GET", "/me");
    signedOutBecause.value = undefined;
  } catch (error) {
    me.value = null;
    if (!(error instanceof Failure) || ![401, 404].includes(error.status)) signedOutBecause.value = (error as Error).message;
    needsSetUp.value = await isSetUpNeeded().catch(() => false);
  }
}

/** Whether there is no operator yet, and the link by which one can be made. */
export const isSetUpNeeded = async (): Promise<boolean> => (await request<{ needed: boolean }>("GET", "/setup")).needed;

export async function signIn(user: string, password: string): Promise<void> {
  try {
    me.value = await request<Me>("POST", "/sign-in", { user, password });
  } catch (error) {
    // It is told no more than this: who is no operator has no business here.
    if (error instanceof Failure && error.status === 404) throw new Failure(404, { code: error.code, message: "This user is no operator." });
    throw error;
  }
  signedOutBecause.value = undefined;
}

/** Makes the first operator, by the token of the link that the server has printed. */
export async function setUp(token: string, user: string, password: string, name: string): Promise<void> {
  me.value = await request<Me>("POST", "/setup", { token, user, password, ...(name && { name }) });
}

export async function signOut(): Promise<void> {
  await request("POST", "/sign-out", {});
  signedOutBecause.value = undefined;
  me.value = null;
}

export interface Options {
  signal?: AbortSignal | undefined;
  /** What is changed, as it was read. */
  revision?: number;
}

/** Below which everything is that the page asks for. */
export const ROOT = "/api/v1/admin";

/** A request below `/api/v1/admin`: what it says. A refusal is thrown. */
export async function request<T>(method: string, path: string, body?: unknown, { signal, revision }: Options = {}): Promise<T> {
  // No page of another origin can send this header without asking.
  const headers: Record<string, string> = { "x-xpush-admin": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (revision !== undefined) headers["if-match"] = `"${revision}"`;
  const init: RequestInit = { method, headers, credentials: "same-origin" };
  if (body !== undefined) init.body = JSON.stringify(body);
  if (signal) init.signal = signal;
  let response: Response;
  try {
    response = await fetch(`${ROOT}${path}`, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, { code: "unreachable", message: "The server cannot be reached." });
  }
  const said = await response.text().then((text) => JSON.parse(text || "{}") as object, () => undefined).catch(() => undefined);
  if (response.ok && said) return said as T;
  const error = (said as { error?: ErrorBody } | undefined)?.error;
  // A wrong password, where one is asked for again, is no end.
  if (response.status === 401 && error?.code !== "bad_credentials" && me.value) {
    signedOutBecause.value = "Your sign-in has ended.";
    me.value = null;
  }
  const wait = response.headers.get("retry-after");
  if (error && wait) error.message += ` Try again in ${wait} s.`;
  throw new Failure(response.status, error ?? { code: "internal", message: `The server answered with status ${response.status}.` }, said);
}
