import { useEffect, useRef, useState } from "preact/hooks";
import { say } from "../ui/toast.tsx";
import { useLoad, type Load } from "./load.tsx";

export interface Pages<T> extends Load<readonly T[]> {
  more: boolean;
  busy: boolean;
  next(): void;
}

/** A list that comes in pages: what has come so far. `ask` answers a page, and behind what the next one begins. */
export function usePages<T>(ask: (after: string | undefined, signal: AbortSignal) => Promise<readonly [readonly T[], string | undefined]>, keys: readonly unknown[]): Pages<T> {
  const first = useLoad((signal) => ask(undefined, signal), keys);
  const [rest, setRest] = useState<{ items: readonly T[]; after: string | undefined }>();
  const [busy, setBusy] = useState(false);
  const gone = useRef(new AbortController());
  useEffect(() => {
    setRest(undefined);
    setBusy(false);
    gone.current = new AbortController();
    return () => gone.current.abort();
  }, [first.data]);
  const after = rest ? rest.after : first.data?.[1];
  async function next(): Promise<void> {
    const { signal } = gone.current;
    setBusy(true);
    try {
      const [items, behind] = await ask(after, signal);
      if (!signal.aborted) setRest({ items: [...(rest?.items ?? []), ...items], after: behind });
    } catch (error) {
      if (!signal.aborted) say((error as Error).message, "bad");
    }
    if (!signal.aborted) setBusy(false);
  }
  return {
    data: first.data && [...first.data[0], ...(rest?.items ?? [])],
    failure: first.failure,
    again: first.again,
    put: (items) => {
      setRest({ items: [], after });
      first.put([items, after]);
    },
    more: after !== undefined,
    busy,
    next: () => void next(),
  };
}
