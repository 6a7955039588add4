import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import * as api from "./api.ts";
import type { Nodes, Stats } from "./contract.ts";

/** Seconds that are shown. */
export const SECONDS = 60;

const SECOND = 1_000;

/** What the server that answers does, a frame a second. A second without an answer is a gap. */
export interface Pulse {
  stats: Stats;
  nodes: Nodes | undefined;
  series: Record<Series, readonly (number | undefined)[]>;
}

type Series = "connections" | "users" | "published" | "delivered";

export const pulse = signal<Pulse | undefined>();
export const pulseFailure = signal<Error | undefined>();

let watching = 0;
let timer: ReturnType<typeof setInterval> | undefined;

/** Measures as long as somebody looks. */
export function usePulse(): void {
  useEffect(() => {
    watching += 1;
    if (watching === 1) {
      void beat();
      timer = setInterval(() => void beat(), SECOND);
    }
    return () => {
      watching -= 1;
      if (watching === 0) clearInterval(timer);
    };
  }, []);
}

let beating = false;

async function beat(): Promise<void> {
  if (beating || document.hidden) return;
  beating = true;
  try {
    const [stats, nodes] = await Promise.all([api.stats(undefined), api.nodes(undefined)]);
    pulse.value = next(pulse.value, stats, nodes);
    pulseFailure.value = undefined;
  } catch (error) {
    pulseFailure.value = error as Error;
  } finally {
    beating = false;
  }
}

function next(before: Pulse | undefined, stats: Stats, nodes: Nodes): Pulse {
  // Another server answers, or it has begun anew: its counters tell nothing about the second before.
  const last = before?.stats.node === stats.node && before.stats.started_at === stats.started_at ? before.stats : undefined;
  const seconds = last ? (stats.at - last.at) / SECOND : 0;
  const rate = (key: "published" | "delivered") => (last && seconds > 0 ? Math.max(0, (stats[key] - last[key]) / seconds) : undefined);
  const values: Record<Series, number | undefined> = {
    connections: stats.connections,
    users: Object.values(stats.users).reduce((sum, one) => sum + one, 0),
    published: rate("published"),
    delivered: rate("delivered"),
  };
  const skipped = Array<undefined>(Math.min(SECONDS, Math.max(0, Math.round(seconds) - 1))).fill(undefined);
  const empty = Array<undefined>(SECONDS).fill(undefined);
  const moved = (key: Series) => [...(before?.series[key] ?? empty), ...skipped, values[key]].slice(-SECONDS);
  const series = { connections: moved("connections"), users: moved("users"), published: moved("published"), delivered: moved("delivered") };
  return { stats, nodes, series };
}
