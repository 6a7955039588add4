import type { ComponentChildren, ButtonHTMLAttributes } from "preact";
import { Icon, type IconName } from "./icon.tsx";

export interface ButtonProps extends Omit<ButtonHTMLAttributes, "icon" | "size"> {
  kind?: "primary" | "outline" | "quiet" | "danger";
  icon?: IconName;
  small?: boolean;
  /** What it has begun is not over: it cannot be begun again. */
  busy?: boolean;
  testId?: string | undefined;
  children?: ComponentChildren;
}

/** A button with words on it. One with an icon alone needs an `aria-label`, which is shown as its title, too. */
export function Button({ kind = "outline", icon, small, busy, testId, children, class: extra, ...rest }: ButtonProps) {
  const classes = ["button", kind, small && "small", !children && "square", extra].filter(Boolean).join(" ");
  return (
    <button
      type="button"
      title={children ? undefined : rest["aria-label"]}
      {...rest}
      class={classes}
      aria-busy={busy}
      aria-disabled={busy}
      onClick={busy ? undefined : rest.onClick}
      data-testid={testId}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : icon && <Icon name={icon} />}
      {children}
    </button>
  );
}
