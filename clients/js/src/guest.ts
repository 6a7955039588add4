import { newId } from "./protocol.ts";

/** Where a guest secret is kept; `localStorage` and `sessionStorage` are such places. */
export interface GuestStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

const KEY = "xpush.guest";

/**
 * The guest secret kept in `storage`, made now if there is none. Without a storage, or with one that refuses (private
 * windows, blocked cookies), it lasts as long as the client: a reconnect is then still the same guest, so that a retried
 * publish is recognised.
 */
export function guestSecret(storage: GuestStorage | null | undefined): string {
  try {
    const kept = storage?.getItem(KEY);
    if (kept) return kept;
    const made = newId();
    storage?.setItem(KEY, made);
    return made;
  } catch {
    return newId();
  }
}

/** The browser's `localStorage`, where there is one and the page may use it. */
export function localGuestStorage(): GuestStorage | null {
  // Node has a `localStorage` too from version 22 on, which warns when touched: a browser is told by its document.
  if (typeof document === "undefined") return null;
  try {
    return localStorage;
  } catch {
    return null;
  }
}
