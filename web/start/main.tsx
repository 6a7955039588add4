import { render } from "preact";
import "../ui/tokens.css";
import "../ui/base.css";
import "../ui/frame.css";
import "../ui/components.css";
import "./start.css";
import { App } from "./app.tsx";
import { Connection } from "./connection.ts";
import { Experiment } from "./experiment.ts";
import { Lobby } from "./lobby.ts";

const connection = new Connection();
const lobby = new Lobby(connection);
const experiment = new Experiment(connection.client);

render(
  <App connection={connection} lobby={lobby} experiment={experiment} />,
  document.getElementById("app") as HTMLElement,
);
