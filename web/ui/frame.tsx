import type { ComponentChildren } from "preact";
import { ThemeSwitch } from "./theme.tsx";

/** The name, which leads to the start page. */
export function Brand({ children }: { children?: ComponentChildren }) {
  return (
    <a class="brand" href="/">
      <img src="/assets/favicon.svg" alt="" width="28" height="28" />
      {children ?? "XPUSH"}
    </a>
  );
}

/** A page's upper edge. `children` stand before the theme's switch, `below` under the row. */
export function Top({ children, below }: { children?: ComponentChildren; below?: ComponentChildren }) {
  return (
    <header class="top">
      <div class="top-row">
        <Brand />
        {children}
        <ThemeSwitch />
      </div>
      {below}
    </header>
  );
}
