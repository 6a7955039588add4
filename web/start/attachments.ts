import { signal } from "@preact/signals";
import { newId, XpushError, type Client, type StoredFile } from "@xpush/client";

/** A file on its way to the server. */
export interface Attachment {
  readonly key: string;
  readonly file: File;
  /** From 0 to 1; at 1 the server looks at it. */
  readonly sent: number;
  /** Why it was refused, or cut off. */
  readonly error?: string;
}

/** What a message tells of its file: any client may publish anything, so each part is looked at. */
export type SentFile = Pick<StoredFile, "id" | "channel" | "name" | "type" | "size" | "thumbnail">;

/** Files that go to a channel: each becomes a message when the server has it. */
export class Attachments {
  readonly list = signal<readonly Attachment[]>([]);
  readonly #client: Client;
  readonly #channel: string;
  readonly #done: (file: StoredFile) => void;
  readonly #aborts = new Map<string, AbortController>();

  constructor(client: Client, channel: string, done: (file: StoredFile) => void) {
    this.#client = client;
    this.#channel = channel;
    this.#done = done;
  }

  add(files: Iterable<File>): void {
    for (const file of files) {
      const attachment = { key: newId(), file, sent: 0 };
      this.list.value = [...this.list.value, attachment];
      void this.#send(attachment);
    }
  }

  retry(attachment: Attachment): void {
    const again = { key: attachment.key, file: attachment.file, sent: 0 };
    this.#replace(again);
    void this.#send(again);
  }

  remove({ key }: Attachment): void {
    this.#aborts.get(key)?.abort();
    this.list.value = this.list.value.filter((other) => other.key !== key);
  }

  async #send(attachment: Attachment): Promise<void> {
    const abort = new AbortController();
    this.#aborts.set(attachment.key, abort);
    try {
      const file = await this.#client.upload(this.#channel, attachment.file, {
        signal: abort.signal,
        onProgress: (sent, total) => this.#replace({ ...attachment, sent: total > 0 ? sent / total : 1 }),
      });
      this.remove(attachment);
      this.#done(file);
    } catch (error) {
      if (!abort.signal.aborted) this.#replace({ ...attachment, error: error instanceof XpushError ? error.message : "it did not get through" });
    } finally {
      this.#aborts.delete(attachment.key);
    }
  }

  #replace(attachment: Attachment): void {
    this.list.value = this.list.value.map((other) => (other.key === attachment.key ? attachment : other));
  }
}

/** The file that a message in `channel` tells of, if it does. */
export function fileOf(data: unknown, channel: string): SentFile | undefined {
  if (typeof data !== "object" || data === null || !("file" in data)) return undefined;
  const file = data.file as Partial<Record<keyof SentFile, unknown>> | null;
  if (typeof file !== "object" || file === null) return undefined;
  const { id, name, type, size, thumbnail } = file;
  if (typeof id !== "string" || !/^[0-9a-z]{26}$/.test(id) || file.channel !== channel) return undefined;
  if (typeof name !== "string" || typeof type !== "string" || typeof size !== "number") return undefined;
  const small = thumbnail as StoredFile["thumbnail"] | null;
  const sized = typeof small === "object" && small !== null && isSide(small.width) && isSide(small.height);
  return { id, channel, name: name.slice(0, 255), type, size, ...(sized && { thumbnail: small }) };
}

/** `1.5 MB` */
export function sizeText(bytes: number): string {
  const [unit, of] = bytes < 1_000_000 ? (["kilobyte", 1_000] as const) : (["megabyte", 1_000_000] as const);
  const number = Math.max(0.1, bytes / of);
  return new Intl.NumberFormat(undefined, { style: "unit", unit, maximumFractionDigits: number < 10 ? 1 : 0 }).format(number);
}

function isSide(pixels: unknown): boolean {
  return Number.isInteger(pixels) && (pixels as number) > 0 && (pixels as number) <= 320;
}
