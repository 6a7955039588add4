import { ago, moment } from "./words.ts";

/** How long ago something was; when exactly, in its title. */
export function Ago({ at }: { at: number | null | undefined }) {
  if (!at) return <span class="soft">never</span>;
  return (
    <time dateTime={new Date(at).toISOString()} title={moment(at)}>
      {ago(at)}
    </time>
  );
}
