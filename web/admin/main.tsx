import { render } from "preact";
import "../ui/tokens.css";
import "../ui/base.css";
import "../ui/components.css";
import "../ui/forms.css";
import "./admin.css";
import { App } from "./app.tsx";

// Development without a server: `npm run dev`, then /admin/?fake. No part of the build.
if (import.meta.env.DEV && location.search === "?fake") (await import("./fake.ts")).install();

render(<App />, document.getElementById("app") as HTMLElement);
