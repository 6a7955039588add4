import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./icon.tsx";

export type BadgeKind = "plain" | "accent" | "good" | "warn" | "bad";

const SIGNS: Partial<Record<BadgeKind, IconName>> = { good: "check", warn: "clock", bad: "close" };

/** A word on how something is. What is good or bad has a sign beside its colour. */
export function Badge({ kind = "plain", icon = SIGNS[kind], title, children }: { kind?: BadgeKind; icon?: IconName; title?: string; children: ComponentChildren }) {
  return (
    <span class={kind === "plain" ? "badge" : `badge ${kind}`} title={title}>
      {icon && <Icon name={icon} />} {children}
    </span>
  );
}
