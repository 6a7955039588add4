import { render } from "preact";
import "../ui/tokens.css";
import "../ui/base.css";
import "../ui/frame.css";
import "../ui/components.css";
import "./docs.css";
import { App } from "./app.tsx";

render(<App />, document.getElementById("app") as HTMLElement);
