import { XpushError, type ErrorBody } from "./protocol.ts";

/** A file as the server keeps it, and as messages tell of it in `data.file`. */
export interface StoredFile {
  readonly id: string;
  readonly channel: string;
  /** What it is called where it is saved. */
  readonly name: string;
  /** Its media type, which the server has found out from its bytes. */
  readonly type: string;
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of its bytes, base64url. */
  readonly hash: string;
  /** Where it is on the server, for who shows a token; {@link Client.fileUrl} is for pages. */
  readonly url: string;
  readonly user: string;
  /** Ms since 1970. */
  readonly created_at: number;
  readonly expires_at?: number;
  /** Of an image, in pixels. */
  readonly width?: number;
  readonly height?: number;
  readonly thumbnail?: { readonly url: string; readonly width: number; readonly height: number };
}

/** How a file is uploaded; everything may be left out. */
export interface UploadOptions {
  /** What it is called; default the `File`'s own name. */
  name?: string;
  /** Hears how much has been sent, now and then; in Node only when all has. */
  onProgress?: (sent: number, total: number) => void;
  /** Aborts the upload; nothing of it is left on the server. */
  signal?: AbortSignal;
}

/** What a page needs to name a file. */
export type FileReference = Pick<StoredFile, "id" | "channel">;

/** Where files are, and who asks. */
export interface FileServer {
  readonly home: string;
  readonly app: string | undefined;
  /** The value of `Authorization`. */
  authorization(): Promise<string>;
}

interface Ticket {
  readonly ticket: string;
  readonly expires_at: number;
}

/** A ticket that is given out is good for at least so long, in ms. */
const FRESH = 120_000;

/** The server answers when the file is kept; that it does not answer at all is found out by the connection's end alone. */
const ANSWER_TIMEOUT = 10_000;

/** Uploads into channels, and URLs of what is there. */
export class Files {
  readonly #server: FileServer;
  readonly #tickets = new Map<string, Promise<Ticket>>();

  constructor(server: FileServer) {
    this.#server = server;
  }

  async upload(channel: string, file: Blob, { name, onProgress, signal }: UploadOptions = {}): Promise<StoredFile> {
    signal?.throwIfAborted();
    const called = name ?? ("name" in file && typeof file.name === "string" ? file.name : "");
    const url = this.#url(`channels/${encodeURIComponent(channel)}/files`);
    url.searchParams.set("name", called);
    const headers = { authorization: await this.#server.authorization(), "content-type": file.type || "application/octet-stream" };
    // The token may have taken a while.
    signal?.throwIfAborted();
    const send = typeof XMLHttpRequest === "undefined" ? byFetch : byXmlHttpRequest;
    const { status, text } = await send(url, headers, file, onProgress, signal);
    return answer<{ readonly file: StoredFile }>(status, text).file;
  }

  /** A URL that a page may show for some minutes: `<img src>`, `<a href>`. One request a channel and a few minutes. */
  async url({ id, channel }: FileReference, thumbnail: boolean): Promise<string> {
    const { ticket } = await this.#ticket(channel);
    const url = this.#url(`files/${encodeURIComponent(id)}${thumbnail ? "/thumbnail" : ""}`);
    url.searchParams.delete("app");
    url.searchParams.set("ticket", ticket);
    return url.href;
  }

  async delete(id: string): Promise<void> {
    const headers = { authorization: await this.#server.authorization() };
    const response = await ask(this.#url(`files/${encodeURIComponent(id)}`), { method: "DELETE", headers });
    answer(response.status, await response.text());
  }

  async #ticket(channel: string): Promise<Ticket> {
    const known = this.#tickets.get(channel);
    if (known) {
      const ticket = await known.catch(() => undefined);
      if (ticket && ticket.expires_at - FRESH > Date.now()) return ticket;
    }
    // Whoever asks at the same time waits for the same answer.
    const current = this.#tickets.get(channel);
    if (current && current !== known) return current;
    const asked = this.#askTicket(channel);
    this.#tickets.set(channel, asked);
    asked.catch(() => this.#tickets.get(channel) === asked && this.#tickets.delete(channel));
    return asked;
  }

  async #askTicket(channel: string): Promise<Ticket> {
    const headers = { authorization: await this.#server.authorization() };
    const url = this.#url(`channels/${encodeURIComponent(channel)}/files/ticket`);
    const response = await ask(url, { method: "POST", headers, signal: AbortSignal.timeout(ANSWER_TIMEOUT) });
    return answer<Ticket>(response.status, await response.text());
  }

  #url(path: string): URL {
    const url = new URL(`/api/v1/${path}`, this.#server.home);
    if (this.#server.app !== undefined) url.searchParams.set("app", this.#server.app);
    return url;
  }
}

interface Answered {
  readonly status: number;
  readonly text: string;
}

type Send = (
  url: URL,
  headers: Readonly<Record<string, string>>,
  file: Blob,
  onProgress: UploadOptions["onProgress"],
  signal: AbortSignal | undefined,
) => Promise<Answered>;

/** The one thing in browsers that tells how much has been sent. */
const byXmlHttpRequest: Send = (url, headers, file, onProgress, signal) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = (): void => request.abort();
    const end = (): void => signal?.removeEventListener("abort", abort);
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    if (onProgress) request.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
    request.onload = () => (end(), resolve({ status: request.status, text: request.responseText }));
    request.onerror = () => (end(), reject(unreachable("the upload was cut off")));
    request.onabort = () => (end(), reject(signal?.reason ?? unreachable("the upload was aborted")));
    signal?.addEventListener("abort", abort);
    request.send(file);
  });

const byFetch: Send = async (url, headers, file, onProgress, signal) => {
  const response = await ask(url, { method: "POST", headers, body: file, ...(signal && { signal }) });
  const text = await response.text();
  if (response.ok) onProgress?.(file.size, file.size);
  return { status: response.status, text };
};

async function ask(url: URL, options: RequestInit): Promise<Response> {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason;
    throw unreachable(error instanceof Error ? error.message : "no answer");
  }
}

function answer<Ok>(status: number, text: string): Ok {
  let body: { error?: ErrorBody } | undefined;
  try {
    body = JSON.parse(text) as typeof body;
  } catch {
    // Somebody between has answered.
  }
  if (body?.error) throw XpushError.from(body.error);
  if (!body || status < 200 || status > 299) throw unreachable(`the server answered with status ${status}`);
  return body as Ok;
}

function unreachable(why: string): XpushError {
  return new XpushError("unreachable", why, "later");
}
