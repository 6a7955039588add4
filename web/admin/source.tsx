import type { Summary } from "./contract.ts";

/** Where an app's settings come from. */
export function SourceBadge({ app: { from, in_file } }: { app: Pick<Summary, "from" | "in_file"> }) {
  if (from === "file") {
    return (
      <span class="badge" title="As the configuration file says, until somebody changes it here">
        file
      </span>
    );
  }
  return (
    <span class="badge accent" title={in_file ? "Changed live: what the file says of it has no effect" : "Set up live"}>
      live
    </span>
  );
}
