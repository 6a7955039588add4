import type { ComponentChildren } from "preact";
import { draftOf, type Draft } from "./draft.ts";
import { Loaded, useLoad } from "./load.tsx";

/** For views that change an app's settings. */
export function WithDraft({ app, what, children }: { app: string; what: string; children(draft: Draft): ComponentChildren }) {
  const load = useLoad(() => draftOf(app), [app]);
  return (
    <Loaded load={load} what={what}>
      {children}
    </Loaded>
  );
}
