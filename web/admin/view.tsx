import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

export interface ViewProps {
  title: string;
  /** The app that it is about, if it is about one. */
  app?: string;
  lead?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
  /** It fills the window, and its panes scroll by themselves. */
  whole?: boolean;
}

/** What one view of the page looks like: its name, what can be done, and the rest. */
export function View({ title, app, lead, actions, children, whole }: ViewProps) {
  useEffect(() => {
    document.title = [title, app, "XPUSH"].filter(Boolean).join(" · ");
  }, [title, app]);
  return (
    <div class={whole ? "view whole-view" : "view"}>
      <header class="view-head">
        <div>
          <h1 tabIndex={-1}>{title}</h1>
          {lead && <p>{lead}</p>}
        </div>
        {actions && <div class="view-actions">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

/** A part of a view with a name of its own. */
export function Section({ title, about, actions, children, testId }: { title: string; about?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren; testId?: string }) {
  return (
    <section class="section" aria-label={title} data-testid={testId}>
      <header>
        <div>
          <h2>{title}</h2>
          {about && <p>{about}</p>}
        </div>
        {actions && <div class="view-actions">{actions}</div>}
      </header>
      {children}
    </section>
  );
}
