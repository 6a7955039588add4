const WIDTH = 240;
const HEIGHT = 56;

export interface SparklineProps {
  /** One value a step, oldest first; `undefined` where there was none, which is drawn as a gap. */
  values: readonly (number | undefined)[];
  /** The value at the upper edge. */
  top: number;
  label: string;
}

/** A line that shows how a figure moved, from zero up. */
export function Sparkline({ values, top, label }: SparklineProps) {
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="grid" d={`M0 0H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT}H${WIDTH}`} />
      <path class="trace" d={trace(values, top)} />
    </svg>
  );
}

function trace(values: readonly (number | undefined)[], top: number): string {
  const step = WIDTH / Math.max(1, values.length - 1);
  let path = "";
  let drawing = false;
  values.forEach((value, index) => {
    if (value === undefined) {
      drawing = false;
      return;
    }
    const x = round(index * step);
    const y = round(HEIGHT * (1 - Math.min(value / top, 1)));
    // The line to itself makes a single sample between two gaps a dot.
    path += drawing ? `L${x} ${y}` : `M${x} ${y}L${x} ${y}`;
    drawing = true;
  });
  return path;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
