import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { Skeleton } from "../../ui/skeleton.tsx";
import { Table } from "../../ui/table.tsx";
import * as api from "../api.ts";
import { apps } from "../apps.ts";
import { Entries } from "../entries.tsx";
import { Loaded, useLoad } from "../load.tsx";
import { go, href } from "../place.ts";
import { EMPTY, pulse, usePulse } from "../pulse.ts";
import { PulseProblem } from "../pulse_problem.tsx";
import { Tile } from "../tile.tsx";
import { Ago } from "../time.tsx";
import { Section, View } from "../view.tsx";
import { figure, short } from "../words.ts";
import { SourceBadge } from "../source.tsx";

/** What goes on, in one look. */
export function Overview() {
  usePulse();
  const now = pulse.value;
  const series = now?.series;
  const entries = useLoad((signal) => api.audit({ limit: 6 }, signal), []);
  return (
    <View
      title="Overview"
      lead={now && <PulseLine />}
      actions={
        <Button kind="primary" icon="plus" onClick={() => go("apps", "new")}>
          New app
        </Button>
      }
    >
      <PulseProblem />
      <div class="tiles">
        <Tile name="Connections" values={series?.connections ?? EMPTY} />
        <Tile name="Users" values={series?.users ?? EMPTY} />
        <Tile name="Published" unit="/s" values={series?.published ?? EMPTY} />
        <Tile name="Delivered" unit="/s" values={series?.delivered ?? EMPTY} />
      </div>
      <Section title="Apps" about="Tenants: their users, channels and keys never meet.">
        <div class="card">
          <Apps />
        </div>
      </Section>
      <Section title="What was done last" actions={<a href={href("audit")}>All of it</a>}>
        <div class="card">
          <Loaded load={entries} what="Entries" rows={4}>
            {({ entries }) => <Entries entries={entries} short />}
          </Loaded>
        </div>
      </Section>
    </View>
  );
}

function PulseLine() {
  const { stats, nodes } = pulse.value!;
  const many = nodes ? nodes.nodes.length : 1;
  return (
    <>
      {many === 1 ? "One server" : `${many} servers together`}, up since <Ago at={stats.started_at} />
      {stats.refused > 0 && `, ${short(stats.refused)} refused`}
      {stats.missing.length > 0 && `; without ${stats.missing.join(", ")}, which did not answer`}
    </>
  );
}

function Apps() {
  const list = apps.list.value;
  const now = pulse.value?.stats;
  if (!list && apps.failure.value) {
    return (
      <div role="alert">
        <Blank title="Apps could not be loaded" drawing={<Drawing name="broken" />} actions={<Button onClick={() => void apps.load()}>Try again</Button>}>
          {apps.failure.value.message}
        </Blank>
      </div>
    );
  }
  if (!list) return <Skeleton what="Apps" rows={3} />;
  if (list.length === 0) {
    return (
      <Blank
        title="No apps yet"
        drawing={<Drawing name="channels" />}
        actions={
          <Button kind="primary" icon="plus" onClick={() => go("apps", "new")}>
            Make the first app
          </Button>
        }
      >
        An app is what your clients connect to.
      </Blank>
    );
  }
  return (
    <Table
      label="Apps"
      items={list}
      keyOf={({ app }) => app}
      testId="app-row"
      columns={[
        { name: "App", cell: ({ app }) => <a href={href("apps", app, "connect")}>{app}</a> },
        { name: "Set up", cell: (app) => <SourceBadge app={app} /> },
        { name: "Connections", kind: "number", cell: ({ app, connections }) => figure(now?.connections_by_app[app] ?? connections) },
        { name: "Users", kind: "number", cell: ({ app, users }) => figure(now?.users[app] ?? users) },
        { name: "Rules", kind: "number", spare: true, cell: ({ rules }) => rules },
        { name: "Guests", spare: true, cell: ({ guests }) => (guests ? "welcome" : "no") },
        { name: "Changed", spare: true, cell: ({ changed }) => (changed ? <><Ago at={changed.at} /> <span class="soft">by {changed.name ?? changed.by}</span></> : <span class="soft">–</span>) },
      ]}
    />
  );
}
