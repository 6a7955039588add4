import { computed, signal, type ReadonlySignal } from "@preact/signals";
import * as api from "./api.ts";
import type { App, Complaint, Settings } from "./contract.ts";
import { differences, merged, same } from "./merge.ts";
import { Failure } from "./session.ts";

/** Settings of an app that somebody is changing: kept until they are saved or thrown away, wherever on the page one goes meanwhile. */
export class Draft {
  readonly app: string;
  /** As the server had them when this began. */
  readonly base: ReadonlySignal<App>;
  readonly mine: ReadonlySignal<Settings>;
  readonly dirty: ReadonlySignal<boolean>;
  readonly saving = signal(false);
  /** Why they could not be saved. */
  readonly failure = signal<Failure | undefined>();
  /** What somebody else has saved meanwhile. */
  readonly theirs = signal<App | undefined>();
  readonly #base;
  readonly #mine;

  constructor(state: App) {
    this.app = state.app;
    this.#base = signal(state);
    this.#mine = signal(state.settings);
    this.base = this.#base;
    this.mine = this.#mine;
    this.dirty = computed(() => !same(this.#base.value.settings, this.#mine.value));
  }

  change(part: Partial<Settings>): void {
    this.#mine.value = { ...this.#mine.value, ...part };
    this.failure.value = undefined;
  }

  discard(): void {
    this.#mine.value = this.#base.value.settings;
    this.failure.value = undefined;
    this.theirs.value = undefined;
  }

  /** Whether it was saved. */
  async save(): Promise<boolean> {
    if (!this.dirty.value) return true;
    this.saving.value = true;
    this.failure.value = undefined;
    try {
      this.begin(await this.#put(this.#changed()));
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (error.code === "conflict") this.theirs.value = (error.body.current as App | undefined) ?? (await api.app(this.app));
      else this.failure.value = error;
      return false;
    } finally {
      this.saving.value = false;
    }
  }

  /** Mine where I have changed something, theirs everywhere else. */
  async keepMine(): Promise<boolean> {
    const theirs = this.theirs.value;
    if (!theirs) return false;
    this.#mine.value = merged(this.#base.value.settings, this.#mine.value, theirs.settings);
    this.#base.value = theirs;
    this.theirs.value = undefined;
    return this.save();
  }

  takeTheirs(): void {
    if (this.theirs.value) this.begin(this.theirs.value);
  }

  /** From what the server has now. */
  begin(state: App): void {
    this.#base.value = state;
    this.#mine.value = state.settings;
    this.theirs.value = undefined;
    this.failure.value = undefined;
  }

  /** Goes on from what the server has now, with what has been changed here. */
  rebase(state: App): void {
    this.#mine.value = merged(this.#base.value.settings, this.#mine.value, state.settings);
    this.#base.value = state;
  }

  /** What the server has to say of a part of the settings, by its path: `rules.2`. */
  complaints(path: string): readonly Complaint[] {
    const all = this.failure.value?.body.complaints ?? [];
    return all.filter((complaint) => complaint.path === path || complaint.path.startsWith(`${path}.`));
  }

  /** The log says what was changed by how it was: rules alone, origins alone, or whatever it was. */
  #put(changed: Partial<Settings>): Promise<App> {
    const { revision } = this.#base.value;
    const { rules, origins, ...others } = changed;
    if (Object.keys(others).length === 0) {
      if (rules && !origins) return api.putRules(this.app, rules, revision);
      if (origins && !rules) return api.putOrigins(this.app, origins, revision);
    }
    return api.changeApp(this.app, changed, revision);
  }

  /** The settings that differ; `null` for what is to be as if it were not set. */
  #changed(): Partial<Settings> {
    const [base, mine] = [this.#base.value.settings, this.#mine.value] as const;
    const keys = [...new Set([...Object.keys(base), ...Object.keys(mine)])] as (keyof Settings)[];
    return Object.fromEntries(keys.filter((key) => !same(base[key], mine[key])).map((key) => [key, mine[key] ?? null]));
  }

  /** What saving would change. */
  changes() {
    return differences(this.#base.value.settings, this.#mine.value);
  }
}

export const drafts = signal<ReadonlyMap<string, Draft>>(new Map());

export const unsaved = computed(() => [...drafts.value.values()].some((draft) => draft.dirty.value));

/** The draft of an app. One without changes begins anew from what the server has now. */
export async function draftOf(app: string): Promise<Draft> {
  const known = drafts.value.get(app);
  if (known?.dirty.value) return known;
  const state = await api.app(app);
  if (known) {
    if (!known.dirty.value) known.begin(state);
    return known;
  }
  const draft = new Draft(state);
  drafts.value = new Map(drafts.value).set(app, draft);
  return draft;
}

/** After a change of the app that was no draft's. */
export async function refresh(app: string): Promise<void> {
  drafts.value.get(app)?.rebase(await api.app(app));
}
