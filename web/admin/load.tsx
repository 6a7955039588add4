import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Blank } from "../ui/blank.tsx";
import { Button } from "../ui/button.tsx";
import { Drawing } from "../ui/drawing.tsx";
import { Skeleton } from "../ui/skeleton.tsx";

export interface Load<T> {
  data: T | undefined;
  /** Why there is nothing, or nothing newer. */
  failure: Error | undefined;
  again(): void;
  /** Shows something that is known already, without asking. */
  put(data: T): void;
}

/** Asks for something whenever one of `keys` changes. What was there stays until there is something else of the same keys. */
export function useLoad<T>(ask: (signal: AbortSignal) => Promise<T>, keys: readonly unknown[]): Load<T> {
  const [state, set] = useState<{ of: string; data?: T; failure?: Error }>({ of: "" });
  const [turn, next] = useState(0);
  const of = JSON.stringify(keys);
  useEffect(() => {
    const gone = new AbortController();
    ask(gone.signal).then(
      (data) => !gone.signal.aborted && set({ of, data }),
      (failure: Error) => !gone.signal.aborted && set((before) => (before.of === of ? { ...before, failure } : { of, failure })),
    );
    return () => gone.abort();
  }, [of, turn]);
  const current = state.of === of;
  return {
    data: current ? state.data : undefined,
    failure: current ? state.failure : undefined,
    again: () => next(turn + 1),
    put: (data) => set({ of, data }),
  };
}

/** The same, once a second as long as somebody looks. */
export function usePolled<T>(ask: (signal: AbortSignal) => Promise<T>, keys: readonly unknown[], ms = 1_000): Load<T> {
  const load = useLoad(ask, keys);
  const latest = useRef(ask);
  latest.current = ask;
  const shown = useRef(load);
  shown.current = load;
  useEffect(() => {
    const gone = new AbortController();
    let asking = false;
    const timer = setInterval(async () => {
      if (asking || document.hidden || !shown.current.data) return;
      asking = true;
      await latest.current(gone.signal).then(
        (data) => !gone.signal.aborted && shown.current.put(data),
        () => undefined,
      );
      asking = false;
    }, ms);
    return () => {
      gone.abort();
      clearInterval(timer);
    };
  }, [JSON.stringify(keys), ms]);
  return load;
}

/** What was asked for; until then a skeleton, and why there is none. */
export function Loaded<T>({ load, what, rows, children }: { load: Load<T>; what: string; rows?: number; children(data: T): ComponentChildren }) {
  if (load.data !== undefined) return <>{children(load.data)}</>;
  if (!load.failure) return <Skeleton what={what} {...(rows ? { rows } : {})} />;
  return (
    <div role="alert">
      <Blank
        title={`${what} could not be loaded`}
        drawing={<Drawing name="broken" />}
        actions={
          <Button icon="refresh" onClick={load.again}>
            Try again
          </Button>
        }
      >
        {load.failure.message}
      </Blank>
    </div>
  );
}
