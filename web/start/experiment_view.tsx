import { Icon } from "../ui/icon.tsx";
import { Switch } from "../ui/switch.tsx";
import type { Connection } from "./connection.ts";
import { PLANNED, type Experiment, type Result } from "./experiment.ts";

export function ExperimentCard({ experiment, connection }: { experiment: Experiment; connection: Connection }) {
  const phase = experiment.phase.value;
  const on = phase === "starting" || phase === "flowing" || phase === "cut";
  return (
    <section class="card experiment" aria-labelledby="experiment-title">
      <header class="experiment-head">
        <div>
          <h2 id="experiment-title">Cut my network</h2>
          <p id="experiment-about">
            A second connection counts aloud, ten messages a second. Yours is cut for a few seconds. See what you missed.
          </p>
        </div>
        <Switch
          on={on}
          labelledBy="experiment-title"
          describedBy="experiment-about"
          disabled={!experiment.running && connection.state.value.status !== "online"}
          testId="cut-switch"
          onChange={(next) => experiment.toggle(next)}
        />
      </header>
      <Cells experiment={experiment} />
      <ul class="legend">
        <li>
          <i class="cell live" /> arrived live
        </li>
        <li>
          <i class="cell missing" /> missed
        </li>
        <li>
          <i class="cell recovered" /> recovered
        </li>
      </ul>
      <Tally experiment={experiment} />
      <Outcome experiment={experiment} />
    </section>
  );
}

function Cells({ experiment }: { experiment: Experiment }) {
  const cells = experiment.cells.value;
  const open = Math.max(0, PLANNED - cells.length);
  return (
    <div class="cells" role="img" aria-label={`${cells.length} messages of the second connection`}>
      {cells.map((arrival, index) => (
        <i key={index} class={`cell ${arrival}`} />
      ))}
      {Array.from({ length: open }, (_, index) => (
        <i key={cells.length + index} class="cell" />
      ))}
    </div>
  );
}

function Tally({ experiment }: { experiment: Experiment }) {
  const { sent, here } = experiment.tally.value;
  const figures: [string, number][] = [
    ["Sent there", sent],
    ["Here", here],
    ["Missing", sent - here],
  ];
  return (
    <dl class="tally figures">
      {figures.map(([term, figure]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{figure}</dd>
        </div>
      ))}
    </dl>
  );
}

function Outcome({ experiment }: { experiment: Experiment }) {
  const result = experiment.result.value;
  return (
    <div class="outcome" role="status">
      {result ? <Counted result={result} /> : <Running experiment={experiment} />}
    </div>
  );
}

function Counted({ result }: { result: Result }) {
  const whole = result.recovered === result.missed && result.inOrder;
  return (
    <>
      <p class={`outcome-line figures ${whole ? "whole" : "holed"}`}>
        <Icon name={whole ? "check" : "alert"} />
        <span data-testid="cut-result">
          {result.missed} missed, {result.recovered} recovered
        </span>
      </p>
      <p class="outcome-more figures">
        {result.inOrder ? "In order, none twice" : "Not in order"}; took {Math.max(1, Math.round(result.took))} ms.
      </p>
    </>
  );
}

function Running({ experiment }: { experiment: Experiment }) {
  switch (experiment.phase.value) {
    case "starting":
      return <p class="outcome-more">Starting the second connection…</p>;
    case "flowing":
      return <p class="outcome-more">Both connected. Messages arrive as they are sent.</p>;
    case "cut":
      return <p class="outcome-more">You are offline. The second connection goes on.</p>;
    case "resuming":
      return <p class="outcome-more">Back. Asking for what was missed…</p>;
    case "failed":
      return (
        <>
          <p class="outcome-line holed">
            <Icon name="alert" /> The experiment was broken off
          </p>
          <p class="outcome-more">The server did not answer in time. Switch it on to try again.</p>
        </>
      );
    default:
      return <p class="outcome-more">Nothing has been cut yet. Switch it on and watch.</p>;
  }
}
