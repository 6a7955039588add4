import type { GuestStorage } from "@xpush/client";

const NAME_KEY = "xpush.name";

const ADJECTIVES = ["Amber", "Brisk", "Calm", "Clear", "Early", "Gentle", "Golden", "Keen", "Lucky", "Quiet", "Swift", "Teal"];
const ANIMALS = ["Badger", "Crane", "Falcon", "Finch", "Fox", "Heron", "Lynx", "Marten", "Otter", "Owl", "Seal", "Wren"];

/**
 * Where this window keeps who it is. Not `localStorage`: each window is a guest of its own, so that two of them can chat; a
 * reload stays the same guest.
 */
export const windowStorage: GuestStorage | null = (() => {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
})();

/** The name that this window had, or a fresh friendly one. */
export function visitorName(): string {
  try {
    const kept = windowStorage?.getItem(NAME_KEY);
    if (kept) return kept;
  } catch {
    // Asked again below, by making one up.
  }
  const name = `${pick(ADJECTIVES)} ${pick(ANIMALS)}`;
  keepName(name);
  return name;
}

export function keepName(name: string): void {
  try {
    windowStorage?.setItem(NAME_KEY, name);
  } catch {
    // Kept nowhere then: the name lasts until the reload.
  }
}

function pick(words: readonly string[]): string {
  return words[Math.floor(Math.random() * words.length)] ?? "Guest";
}
