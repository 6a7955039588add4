import { Sparkline } from "../ui/sparkline.tsx";
import { figure, short } from "./words.ts";

export interface TileProps {
  name: string;
  unit?: string;
  /** A value a second, oldest first. */
  values: readonly (number | undefined)[];
  about?: string;
}

/** A figure, and how it has moved in the last minute. */
export function Tile({ name, unit, values, about }: TileProps) {
  const last = values.at(-1);
  const known = values.filter((value) => value !== undefined);
  const top = niceAbove(Math.max(0, ...known));
  return (
    <section class="card tile" aria-label={name}>
      <h2>{name}</h2>
      <p class="tile-figure figures">
        {last === undefined ? "–" : short(last)}
        {unit && <small> {unit}</small>}
      </p>
      <div class="tile-plot">
        <Sparkline values={values} top={top} label={`${name} over the last minute, at most ${figure(Math.max(0, ...known))}`} />
        <div class="tile-scale figures" aria-hidden="true">
          <span>{short(top)}</span>
          <span>0</span>
        </div>
      </div>
      <p class="tile-about figures">
        <span>60 s ago</span>
        <span>{about ?? "now"}</span>
      </p>
    </section>
  );
}

/** The next of 1, 2, 5, 10, 20, 50 … */
function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}
