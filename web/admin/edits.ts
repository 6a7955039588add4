import { signal } from "@preact/signals";

/** What somebody has changed of a user and not saved yet; what was left alone stays as the server has it. */
export interface Edit {
  name?: string;
  roles?: string;
}

/** By app and user: kept until they are saved or thrown away, wherever on the page one goes meanwhile. */
export const edits = signal<ReadonlyMap<string, Edit>>(new Map());

export function putEdit(key: string, edit: Edit | undefined): void {
  const next = new Map(edits.value);
  if (edit) next.set(key, edit);
  else next.delete(key);
  edits.value = next;
}
