import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import * as api from "./api.ts";
import type { Nodes, Stats } from "./contract.ts";

/** Seconds that are shown. */
export const SECONDS = 60;

const SECOND = 1_000;

/** Of what nothing is known yet. */
export const EMPTY: readonly undefined[] = Array<undefined>(SECONDS).fill(undefined);

/** What all servers do together, a frame a second. A second without an answer is a gap. */
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
  const last = before?.stats;
  const seconds = last ? (stats.at - last.at) / SECOND : 0;
  // Of a server that was not there a second ago (a node's id is of one start) its counters tell nothing about that second.
  const pairs = stats.nodes.flatMap((node) => last?.nodes.filter((was) => was.node === node.node).map((was) => [was, node] as const) ?? []);
  const rate = (key: "published" | "delivered") =>
    pairs.length > 0 && seconds > 0 ? pairs.reduce((sum, [was, is]) => sum + Math.max(0, is[key] - was[key]), 0) / seconds : undefined;
  const values: Record<Series, number | undefined> = {
    connections: stats.connections,
    users: Object.values(stats.users).reduce((sum, one) => sum + one, 0),
    published: rate("published"),
    delivered: rate("delivered"),
  };
  const skipped = Array<undefined>(Math.min(SECONDS, Math.max(0, Math.round(seconds) - 1))).fill(undefined);
  const moved = (key: Series) => [...(before?.series[key] ?? EMPTY), ...skipped, values[key]].slice(-SECONDS);
  const series = { connections: moved("connections"), users: moved("users"), published: moved("published"), delivered: moved("delivered") };
  return { stats, nodes, series };
}
