import type { Person } from "./protocol.ts";

/** Who is typing: each until told otherwise, or until what was told holds no longer. */
export class Typists {
  readonly #changed: () => void;
  readonly #people = new Map<string, { readonly person: Person; readonly timer: ReturnType<typeof setTimeout> }>();

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  get list(): readonly Person[] {
    return [...this.#people.values()].map(({ person }) => person);
  }

  /** `person` types for another `ttl` ms; 0 ends it. */
  tell(person: Person, ttl: number): void {
    if (ttl <= 0) return this.remove(person.user);
    const known = this.#people.get(person.user);
    clearTimeout(known?.timer);
    const timer = setTimeout(() => this.remove(person.user), ttl);
    this.#people.set(person.user, { person, timer });
    if (!known) this.#changed();
  }

  remove(user: string): void {
    clearTimeout(this.#people.get(user)?.timer);
    if (this.#people.delete(user)) this.#changed();
  }

  clear(): void {
    for (const { timer } of this.#people.values()) clearTimeout(timer);
    const none = this.#people.size === 0;
    this.#people.clear();
    if (!none) this.#changed();
  }
}
