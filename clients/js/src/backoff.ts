/** Bounds of the waiting time between attempts, in milliseconds. */
export interface Backoff {
  readonly min: number;
  readonly max: number;
}

/** Doubles from `min` to `max`; a random half of it, so that clients cut off together do not come back together. */
export function backoffDelay({ min, max }: Backoff, attempt: number): number {
  const ceiling = Math.min(max, min * 2 ** Math.min(attempt, 30));
  return Math.round(ceiling * (0.5 + Math.random() / 2));
}
