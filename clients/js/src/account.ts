import { Emitter } from "./emitter.ts";
import type { GuestStorage } from "./guest.ts";
import { XpushError, type ErrorBody } from "./protocol.ts";
import type { TokenReason } from "./token.ts";

/** Where the tokens are kept; `localStorage` and `sessionStorage` are such places. */
export interface AccountStorage extends GuestStorage {
  removeItem(key: string): void;
}

/** How an account is reached; everything may be left out. */
export interface AccountOptions {
  /** The app; the server's default when absent. */
  app?: string;
  /** Default `localStorage`, so that all tabs are signed in together; `null`: for as long as this object lives. */
  storage?: AccountStorage | null;
  /** Default the global one. */
  fetch?: typeof fetch;
}

/** The device that signs in, so that its user can see and end it. */
export interface DeviceInfo {
  /** 1 to 64 characters; the same after each start. */
  id: string;
  name?: string;
  /** `ios`, `android`, `web`, … */
  platform?: string;
}

/** What one signs in with. */
export interface Login {
  user: string;
  password: string;
  device?: DeviceInfo;
}

/** What one registers with. */
export interface Registration extends Login {
  /** The display name. */
  name?: string;
}

/** Who is signed in. */
export interface SignedIn {
  readonly app: string;
  readonly user: string;
  readonly name?: string;
}

/** What an account tells. */
export interface AccountEvents {
  signed_in: SignedIn;
  /** By {@link Account.logout} (no error), or because the server has ended the login. */
  signed_out: XpushError | undefined;
}

interface Tokens extends SignedIn {
  readonly access_token: string;
  readonly expires_at: number;
  readonly refresh_token: string;
}

/** A token that is given out to connect with holds at least this long, in ms. */
const FRESH_TO_CONNECT = 30_000;

/** A token that replaces one about to expire holds at least this long, in ms: longer than the server warns ahead. */
const FRESH_TO_RENEW = 120_000;

/**
 * A login of a built-in account: register, log in, stay logged in. Refresh tokens are good once, so only one refresh is under
 * way at a time: in this object, and (where the browser has Web Locks) over all tabs that share the storage.
 *
 * ```js
 * const account = new Account(url, { app: "shop" });
 * await account.login({ user: "ann", password });
 * const xpush = connect(url, { app: "shop", token: account.token });
 * ```
 */
export class Account extends Emitter<AccountEvents> {
  readonly #url: string;
  readonly #app: string | undefined;
  readonly #storage: AccountStorage | null;
  readonly #fetch: typeof fetch;
  readonly #key: string;
  #held: Tokens | undefined;
  /** The token that was given out last. */
  #given: string | undefined;
  #refreshing: Promise<Tokens> | undefined;

  constructor(url: string, { app, storage = localAccountStorage(), fetch: ask }: AccountOptions = {}) {
    super();
    this.#url = url.replace(/\/$/, "");
    this.#app = app;
    this.#storage = storage;
    this.#fetch = ask ?? ((...request) => fetch(...request));
    this.#key = app === undefined ? "xpush.account" : `xpush.account.${app}`;
  }

  /** Who is signed in, as far as is known here. */
  get signedIn(): SignedIn | undefined {
    const held = this.#load();
    return held && whoOf(held);
  }

  /** Makes an account and signs in. */
  register(registration: Registration): Promise<SignedIn> {
    return this.#signIn("register", registration);
  }

  login(login: Login): Promise<SignedIn> {
    return this.#signIn("login", login);
  }

  /** Ends this login, or with `everywhere` all of this user's; live connections end, too. */
  async logout({ everywhere = false }: { everywhere?: boolean } = {}): Promise<void> {
    if (!this.#load()) return;
    const token = await this.token();
    await this.#post("logout", everywhere ? { everywhere } : {}, token);
    this.#forget(undefined);
  }

  /** Sets another password; every other login of this user ends. */
  async changePassword(current: string, next: string): Promise<void> {
    await this.#post("password", { current, new: next }, await this.token());
  }

  /**
   * An access token that holds for a while: the `token` of a client's options. Rejects with `signed_out` when there is no
   * login (any more).
   */
  readonly token = async (reason: TokenReason = "connect"): Promise<string> => {
    let held = this.#load();
    if (!held) throw signedOut();
    const fresh = Date.now() + (reason === "connect" ? FRESH_TO_CONNECT : FRESH_TO_RENEW);
    const refused = reason === "expired" && held.access_token === this.#given;
    if (refused || held.expires_at < fresh) held = await this.#refreshOnce();
    this.#given = held.access_token;
    return held.access_token;
  };

  /** Exchanges the refresh token now, whatever time is left; the new access token. */
  async refresh(): Promise<string> {
    const { access_token } = await this.#refreshOnce();
    return (this.#given = access_token);
  }

  async #signIn(what: "register" | "login", fields: object): Promise<SignedIn> {
    const app = this.#app === undefined ? {} : { app: this.#app };
    const tokens = (await this.#post(what, { ...app, ...fields })) as Tokens;
    this.#keep(tokens);
    const who = whoOf(tokens);
    this.emit("signed_in", who);
    return who;
  }

  #refreshOnce(): Promise<Tokens> {
    const stale = this.#load()?.refresh_token;
    this.#refreshing ??= this.#alone(() => this.#rotate(stale)).finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  async #rotate(stale: string | undefined): Promise<Tokens> {
    const held = this.#load();
    if (!held) throw signedOut();
    // Another tab was faster.
    if (held.refresh_token !== stale) return held;
    try {
      const tokens = (await this.#post("refresh", { refresh_token: held.refresh_token })) as Tokens;
      this.#keep(tokens);
      return tokens;
    } catch (error) {
      if (!(error instanceof XpushError) || error.retry !== "no") throw error;
      this.#forget(error);
      throw signedOut(error);
    }
  }

  /** Runs `work` while no other tab does. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const locks = this.#storage && typeof navigator !== "undefined" ? navigator.locks : undefined;
    return locks ? (locks.request(this.#key, work) as Promise<T>) : work();
  }

  async #post(what: string, fields: object, token?: string): Promise<unknown> {
    let response: Response;
    try {
      response = await this.#fetch(`${this.#url}/api/v1/auth/${what}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
        body: JSON.stringify(fields),
      });
    } catch (error) {
      throw new XpushError("unreachable", error instanceof Error ? error.message : String(error), "later");
    }
    const body = (await response.json().catch(() => undefined)) as { error?: ErrorBody } | undefined;
    if (response.ok && body) return body;
    if (body?.error) throw XpushError.from(body.error);
    throw new XpushError("unreachable", `the server answered ${response.status}`, "later");
  }

  /** The storage is the truth where there is one: another tab may have changed it. */
  #load(): Tokens | undefined {
    if (!this.#storage) return this.#held;
    try {
      const kept = this.#storage.getItem(this.#key);
      return kept ? (JSON.parse(kept) as Tokens) : undefined;
    } catch {
      return this.#held;
    }
  }

  #keep(tokens: Tokens): void {
    this.#held = tokens;
    try {
      this.#storage?.setItem(this.#key, JSON.stringify(tokens));
    } catch {
      // A storage that is full or refuses: the login lasts as long as this object.
    }
  }

  #forget(error: XpushError | undefined): void {
    this.#held = this.#given = undefined;
    try {
      this.#storage?.removeItem(this.#key);
    } catch {
      // As when keeping.
    }
    this.emit("signed_out", error);
  }
}

function whoOf({ app, user, name }: Tokens): SignedIn {
  return { app, user, ...(name !== undefined && { name }) };
}

function signedOut(cause?: XpushError): XpushError {
  return new XpushError("signed_out", cause?.message ?? "nobody is signed in", "no");
}

function localAccountStorage(): AccountStorage | null {
  if (typeof document === "undefined") return null;
  try {
    return localStorage;
  } catch {
    return null;
  }
}
