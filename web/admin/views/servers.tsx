import { Badge } from "../../ui/badge.tsx";
import { Skeleton } from "../../ui/skeleton.tsx";
import { Table } from "../../ui/table.tsx";
import { EMPTY, pulse, usePulse } from "../pulse.ts";
import { PulseProblem } from "../pulse_problem.tsx";
import { Tile } from "../tile.tsx";
import { Ago } from "../time.tsx";
import { Section, View } from "../view.tsx";
import { figure, short } from "../words.ts";

const STANDING = {
  live: "Every server sees the others.",
  frozen: "The cluster's service does not answer: what was known of the servers holds until it does.",
  expired: "This server has lost its place in the cluster and takes it anew.",
};

/** Which servers there are, and what each of them carries. */
export function Servers() {
  usePulse();
  const now = pulse.value;
  const nodes = now?.nodes;
  return (
    <View title="Servers" lead={nodes ? (nodes.nodes.length === 1 && nodes.standing === "live" ? "This server is alone." : STANDING[nodes.standing]) : "Which servers there are, and what each of them carries."}>
      <PulseProblem />
      <div class="card">
        {nodes ? (
          <Table
            label="Servers"
            items={nodes.nodes}
            keyOf={({ node }) => node}
            testId="server"
            columns={[
              {
                name: "Server",
                cell: ({ node, name, self, url }) => (
                  <>
                    {name ?? node}
                    {self && <Badge kind="accent">answers</Badge>}
                    {nodes.planning && self && <Badge>plans</Badge>}
                    {url && <small class="soft cell-line">{url}</small>}
                  </>
                ),
              },
              { name: "State", cell: ({ draining }) => (draining ? <Badge kind="warn">draining</Badge> : <Badge kind="good">live</Badge>) },
              { name: "Connections", kind: "number", cell: ({ connections }) => known(connections) },
              { name: "Channels", kind: "number", cell: ({ channels }) => known(channels) },
              { name: "Share of the ring", cell: ({ share }) => <Share of={share} /> },
              { name: "Lag", kind: "number", cell: ({ lag_ms }) => (lag_ms === undefined || lag_ms === null ? "–" : `${figure(lag_ms)} ms`) },
              { name: "Since", spare: true, cell: ({ since }) => <Ago at={since} /> },
              { name: "Version", spare: true, cell: ({ version }) => version ?? "–" },
            ]}
          />
        ) : (
          <Skeleton what="Servers" rows={3} />
        )}
      </div>
      <Section title="All together" about={`Counted since each one's start; a frame a second.${now?.stats.missing.length ? ` Without ${now.stats.missing.join(", ")}, which did not answer.` : ""}`}>
        <div class="tiles">
          <Tile name="Connections" values={now?.series.connections ?? EMPTY} />
          <Tile name="Published" unit="/s" values={now?.series.published ?? EMPTY} about={now ? `${short(now.stats.published)} in all` : "now"} />
          <Tile name="Delivered" unit="/s" values={now?.series.delivered ?? EMPTY} about={now ? `${short(now.stats.delivered)} in all` : "now"} />
          <section class="card tile" aria-label="Refused">
            <h2>Refused</h2>
            <p class="tile-figure figures">{now ? short(now.stats.refused) : "–"}</p>
            <p class="hint">Requests and commands that were not let through. Why: see <code>/metrics</code>.</p>
          </section>
        </div>
      </Section>
    </View>
  );
}

function known(value: number | null | undefined): string {
  return value === undefined || value === null ? "–" : short(value);
}

function Share({ of }: { of: number | null | undefined }) {
  if (of === undefined || of === null) return <span class="soft">–</span>;
  return (
    <span class="share figures">
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        <rect class="share-all" width="100" height="6" rx="3" />
        <rect class="share-part" width={Math.round(of * 1_000) / 10} height="6" rx="3" />
      </svg>
      {Math.round(of * 100)} %
    </span>
  );
}
