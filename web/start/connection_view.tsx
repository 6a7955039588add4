import type { ReadonlySignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import type { Shown } from "@xpush/client";
import { Icon, type IconName } from "../ui/icon.tsx";
import { Sparkline } from "../ui/sparkline.tsx";
import { LATENCY_SECONDS, type Connection } from "./connection.ts";
import type { Experiment } from "./experiment.ts";
import type { Lobby } from "./lobby.ts";

/** The connection's state in two words, always in sight. */
export function ConnectionPill({ connection, experiment }: { connection: Connection; experiment: Experiment }) {
  const shown = connection.shown.value;
  const { tone, icon, text } = pill(shown, experiment.phase.value === "cut");
  return (
    <span class={`pill ${tone}`} role="status" data-testid="conn-state" data-status={shown.status}>
      <Icon name={icon} />
      {text}
    </span>
  );
}

function pill(shown: Shown, cutByUs: boolean): { tone: string; icon: IconName; text: string } {
  switch (shown.status) {
    case "connected":
    case "moving":
      return { tone: "good", icon: "check", text: "Connected" };
    case "connecting":
      return { tone: "", icon: "clock", text: "Connecting" };
    case "reconnecting":
      return { tone: "warn", icon: "clock", text: "Reconnecting" };
    case "paused":
      return { tone: "warn", icon: "cut", text: cutByUs ? "Cut by you" : "Paused" };
    case "closed":
      return { tone: "bad", icon: "alert", text: "Refused" };
  }
}

/** A slim bar while there is no connection: why, and when it is tried again. */
export function ConnectionBar({ connection, experiment, lobby }: { connection: Connection; experiment: Experiment; lobby: Lobby }) {
  const shown = connection.shown.value;
  const waiting = lobby.waiting.value;
  const queued = waiting > 0 && ` · ${waiting === 1 ? "1 message waits" : `${waiting} messages wait`}`;
  switch (shown.status) {
    // A first connection is there in a moment: the page says so where it says everything else.
    case "connected":
    case "moving":
    case "connecting":
      return null;
    case "closed":
      return (
        <div class="bar bad" role="alert">
          <Icon name="alert" />
          <span>The server refused the connection: {shown.error?.message ?? "closed"}</span>
          <button type="button" onClick={() => location.reload()}>
            Try again
          </button>
        </div>
      );
    case "paused":
      return (
        <div class="bar">
          <Icon name="cut" />
          <span class="figures">Network cut by you{queued}</span>
          <button type="button" onClick={() => experiment.toggle(false)}>
            End it now
          </button>
        </div>
      );
    case "reconnecting":
      return (
        <div class="bar" data-testid="reconnecting">
          <Icon name="clock" />
          <span class="figures">
            Reconnecting… {shown.retryAt !== undefined && <Countdown until={shown.retryAt} />}
            {queued}
          </span>
          <button type="button" disabled={shown.retryAt === undefined} onClick={() => connection.client.retryNow()}>
            Try now
          </button>
        </div>
      );
  }
}

/** Who we are to the server, and how far away it is. */
export function ConnectionCard({ connection }: { connection: Connection }) {
  const state = connection.state.value;
  const welcome = connection.welcome.value;
  const rows: [string, string | undefined][] = [
    ["Transport", state.status === "online" ? transportName(state.transport) : undefined],
    ["Node", welcome?.node],
    ["You are", welcome?.user],
  ];
  return (
    <section class="card connection" aria-labelledby="connection-title">
      <h2 id="connection-title">This connection</h2>
      <Latency samples={connection.latency} />
      <dl>
        {rows.map(([term, value]) => (
          <div key={term}>
            <dt>{term}</dt>
            <dd title={value}>{value ?? "–"}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Latency({ samples }: { samples: ReadonlySignal<readonly (number | undefined)[]> }) {
  const values = samples.value;
  const last = values.at(-1);
  const known = values.filter((value) => value !== undefined);
  const top = niceAbove(Math.max(0, ...known));
  const worst = known.length > 0 ? `at most ${inMs(Math.max(...known))} ms` : "no sample yet";
  return (
    <div class="latency">
      <p class="latency-figure figures">
        <span class="latency-name">Round trip</span>
        <span data-testid="latency">
          {last === undefined ? "–" : inMs(last)}
          {last !== undefined && <small> ms</small>}
        </span>
      </p>
      <figure class="latency-chart">
        <div class="latency-plot">
          <Sparkline values={values} top={top} label={`Round trip over the last minute, ${worst}`} />
          <div class="latency-scale figures" aria-hidden="true">
            <span>{top} ms</span>
            <span>0</span>
          </div>
        </div>
        <figcaption class="figures" aria-hidden="true">
          <span>{LATENCY_SECONDS} s ago</span>
          <span>now</span>
        </figcaption>
      </figure>
    </div>
  );
}

function Countdown({ until }: { until: number }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [until]);
  // At least 1: "0 s" would say that it happens now, and then it does not.
  return <>{Math.max(1, Math.ceil((until - now) / 1_000))} s</>;
}

function transportName(transport: string): string {
  return { websocket: "WebSocket", polling: "Long polling" }[transport] ?? transport;
}

/** The next of 1, 2, 5, 10, 20, 50 … */
function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

function inMs(ms: number): string {
  return ms < 10 ? ms.toFixed(1) : String(Math.round(ms));
}
