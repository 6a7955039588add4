import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { Icon } from "../../ui/icon.tsx";
import { Skeleton } from "../../ui/skeleton.tsx";
import * as api from "../api.ts";
import { apps } from "../apps.ts";
import { Entries } from "../entries.tsx";
import { Loaded, useLoad } from "../load.tsx";
import { go, href } from "../place.ts";
import { pulse, pulseFailure, SECONDS, usePulse } from "../pulse.ts";
import { Tile } from "../tile.tsx";
import { Ago } from "../time.tsx";
import { Section, View } from "../view.tsx";
import { figure, short } from "../words.ts";
import { SourceBadge } from "../source.tsx";

const NOTHING = Array<undefined>(SECONDS).fill(undefined);

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
      {pulseFailure.value && (
        <p class="note bad" role="alert">
          <Icon name="alert" /> No figures at the moment: {pulseFailure.value.message}
        </p>
      )}
      <div class="tiles">
        <Tile name="Connections" values={series?.connections ?? NOTHING} />
        <Tile name="Users" values={series?.users ?? NOTHING} />
        <Tile name="Published" unit="/s" values={series?.published ?? NOTHING} />
        <Tile name="Delivered" unit="/s" values={series?.delivered ?? NOTHING} />
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
      {many === 1 ? "One server" : `${many} servers; figures are of the one that answers`}, up since <Ago at={stats.started_at} />
      {stats.refused > 0 && `, ${short(stats.refused)} refused`}
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
    <div class="table-frame" tabIndex={0} role="group" aria-label="Apps">
      <table class="table">
        <thead>
          <tr>
            <th scope="col">App</th>
            <th scope="col">Set up</th>
            <th scope="col" class="number">
              Connections
            </th>
            <th scope="col" class="number">
              Users
            </th>
            <th scope="col" class="number">
              Rules
            </th>
            <th scope="col">Guests</th>
            <th scope="col">Changed</th>
          </tr>
        </thead>
        <tbody>
          {list.map((app) => (
            <tr key={app.app} data-testid="app-row">
              <th scope="row">
                <a href={href("apps", app.app, "connect")}>{app.app}</a>
              </th>
              <td>
                <SourceBadge app={app} />
              </td>
              <td class="number">{figure(now?.connections_by_app[app.app] ?? app.connections)}</td>
              <td class="number">{figure(now?.users[app.app] ?? app.users)}</td>
              <td class="number">{app.rules}</td>
              <td>{app.guests ? "welcome" : "no"}</td>
              <td>{app.changed ? <><Ago at={app.changed.at} /> <span class="soft">by {app.changed.by}</span></> : <span class="soft">–</span>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
