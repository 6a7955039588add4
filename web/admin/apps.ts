import { computed, signal } from "@preact/signals";
import * as api from "./api.ts";
import type { Summary } from "./contract.ts";

const list = signal<readonly Summary[] | undefined>();
const failure = signal<Error | undefined>();

/** Which apps there are, for everything that leads to one. */
export const apps = {
  list,
  failure,
  names: computed(() => (list.value ?? []).map(({ app }) => app)),
  /** The one that was shown last. */
  last: signal<string | undefined>(),
  async load(): Promise<void> {
    try {
      list.value = await api.appList();
      failure.value = undefined;
    } catch (error) {
      failure.value = error as Error;
    }
  },
};
