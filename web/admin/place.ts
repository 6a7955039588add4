import { signal } from "@preact/signals";

/** What the page shows: `#/apps/demo/channels/chat:lobby` are the parts `apps`, `demo`, `channels`, `chat:lobby`. */
export type Place = readonly string[];

export const place = signal<Place>(read(location.hash));

addEventListener("hashchange", () => (place.value = read(location.hash)));

export function href(...parts: Place): string {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export function go(...parts: Place): void {
  location.hash = href(...parts);
}

/** Of an app's own views. */
export const VIEWS = ["connect", "channels", "users", "rules", "keys", "hooks", "files", "settings"] as const;

export type View = (typeof VIEWS)[number];

function read(hash: string): Place {
  try {
    return hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    // A half escape that somebody typed.
    return [];
  }
}
