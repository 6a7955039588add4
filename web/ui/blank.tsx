import type { ComponentChildren } from "preact";

export interface BlankProps {
  title: string;
  drawing?: ComponentChildren;
  children: ComponentChildren;
  actions?: ComponentChildren;
}

/** An empty or failed place: a drawing, one sentence, the next action. */
export function Blank({ title, drawing, children, actions }: BlankProps) {
  return (
    <div class="blank">
      {drawing}
      <p class="blank-title">{title}</p>
      <p>{children}</p>
      {actions && <div class="actions">{actions}</div>}
    </div>
  );
}
