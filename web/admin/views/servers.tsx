import { Icon } from "../../ui/icon.tsx";
import { Skeleton } from "../../ui/skeleton.tsx";
import { pulse, pulseFailure, SECONDS, usePulse } from "../pulse.ts";
import { Tile } from "../tile.tsx";
import { Ago } from "../time.tsx";
import { Section, View } from "../view.tsx";
import { figure, short } from "../words.ts";

const STANDING = {
  live: "Every server sees the others.",
  frozen: "The cluster's service does not answer: what was known of the servers holds until it does.",
  expired: "This server has lost its place in the cluster and takes it anew.",
};

const NOTHING = Array<undefined>(SECONDS).fill(undefined);

/** Which servers there are, and what each of them carries. */
export function Servers() {
  usePulse();
  const now = pulse.value;
  const nodes = now?.nodes;
  return (
    <View title="Servers" lead={nodes ? STANDING[nodes.standing] : "Which servers there are, and what each of them carries."}>
      {pulseFailure.value && (
        <p class="note bad" role="alert">
          <Icon name="alert" /> {pulseFailure.value.message}
        </p>
      )}
      <div class="card">
        {nodes ? (
          <div class="table-frame" tabIndex={0} role="group" aria-label="Servers">
            <table class="table">
              <thead>
                <tr>
                  <th scope="col">Server</th>
                  <th scope="col">State</th>
                  <th scope="col" class="number">
                    Connections
                  </th>
                  <th scope="col" class="number">
                    Channels
                  </th>
                  <th scope="col">Share of the ring</th>
                  <th scope="col" class="number">
                    Lag
                  </th>
                  <th scope="col">Since</th>
                  <th scope="col">Version</th>
                </tr>
              </thead>
              <tbody>
                {nodes.nodes.map((node) => (
                  <tr key={node.node} data-testid="server">
                    <th scope="row">
                      {node.name ?? node.node}
                      {node.self && <span class="badge accent">answers</span>}
                      {nodes.planning && node.self && <span class="badge">plans</span>}
                      {node.url && <small class="soft cell-line">{node.url}</small>}
                    </th>
                    <td>
                      {node.draining ? (
                        <span class="badge warn">
                          <Icon name="clock" /> draining
                        </span>
                      ) : (
                        <span class="badge good">
                          <Icon name="check" /> live
                        </span>
                      )}
                    </td>
                    <td class="number">{known(node.connections)}</td>
                    <td class="number">{known(node.channels)}</td>
                    <td>
                      <Share of={node.share} />
                    </td>
                    <td class="number">{node.lag_ms === undefined || node.lag_ms === null ? "–" : `${figure(node.lag_ms)} ms`}</td>
                    <td>
                      <Ago at={node.since} />
                    </td>
                    <td>{node.version ?? "–"}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        ) : (
          <Skeleton what="Servers" rows={3} />
        )}
      </div>
      <Section title={`The server that answers${now ? `: ${now.stats.node}` : ""}`} about="Counted since its start; a frame a second.">
        <div class="tiles">
          <Tile name="Connections" values={now?.series.connections ?? NOTHING} />
          <Tile name="Published" unit="/s" values={now?.series.published ?? NOTHING} about={now ? `${short(now.stats.published)} in all` : "now"} />
          <Tile name="Delivered" unit="/s" values={now?.series.delivered ?? NOTHING} about={now ? `${short(now.stats.delivered)} in all` : "now"} />
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
