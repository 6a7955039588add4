import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./icon.tsx";
import { rove } from "./roving.ts";

export interface MenuItem {
  key: string;
  words: string;
  icon?: IconName;
  danger?: boolean;
  /** It is the one that holds now. */
  current?: boolean;
  /** A line above it. */
  apart?: boolean;
  act(): void;
}

export interface MenuProps {
  label: string;
  items: readonly MenuItem[];
  /** What is on the button; three dots without it. */
  children?: ComponentChildren;
  class?: string;
  /** It opens towards the beginning of the line. */
  towardsStart?: boolean;
  testId?: string;
}

/** A button with a few things to do, as the ARIA practices describe it. */
export function Menu({ label, items, children, class: extra, towardsStart, testId }: MenuProps) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();

  // Before anything is painted: the next key is for the menu already.
  useLayoutEffect(() => {
    if (!open) return;
    place(root.current!, towardsStart ?? false);
    (root.current?.querySelector<HTMLElement>("[role=menuitem][aria-current]") ?? root.current?.querySelector<HTMLElement>("[role=menuitem]"))?.focus();
    const elsewhere = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    addEventListener("pointerdown", elsewhere);
    addEventListener("focusin", elsewhere);
    addEventListener("scroll", elsewhere, true);
    return () => {
      removeEventListener("scroll", elsewhere, true);
      removeEventListener("pointerdown", elsewhere);
      removeEventListener("focusin", elsewhere);
    };
  }, [open]);

  function close(): void {
    setOpen(false);
    root.current?.querySelector<HTMLElement>("button")?.focus();
  }

  return (
    <div class="menu" ref={root}>
      <button
        type="button"
        class={extra ?? "button quiet square"}
        aria-label={children ? undefined : label}
        title={children ? undefined : label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        data-testid={testId}
        onClick={() => setOpen(!open)}
        onKeyDown={(event) => {
          if (event.key !== "ArrowDown") return;
          event.preventDefault();
          setOpen(true);
        }}
      >
        {children ?? <Icon name="dots" />}
        {children && <span class="unseen"> ({label})</span>}
      </button>
      {open && (
        <div
          id={id}
          role="menu"
          popover="manual"
          aria-label={label}
          class="menu-list"
          onKeyDown={(event) => {
            if (event.key === "Escape" || event.key === "Tab") {
              event.stopPropagation();
              close();
            } else rove(event, "[role=menuitem]");
          }}
        >
          {items.map((item) => (
            <button
              key={item.key}
              type="button"
              role="menuitem"
              tabIndex={-1}
              class={`menu-item${item.danger ? " danger" : ""}${item.apart ? " apart" : ""}`}
              aria-current={item.current || undefined}
              data-testid={`menu-${item.key}`}
              onClick={() => {
                close();
                item.act();
              }}
            >
              {item.icon && <Icon name={item.icon} />}
              <span>{item.words}</span>
              {item.current && <Icon name="check" />}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

const MARGIN = 4;

/** In the top layer, where nothing cuts it off: below the button, or above it where there is more room. */
function place(root: HTMLElement, towardsStart: boolean): void {
  const list = root.querySelector<HTMLElement>("[popover]")!;
  const button = root.querySelector("button")!.getBoundingClientRect();
  list.showPopover();
  const { width, height } = list.getBoundingClientRect();
  const rightToLeft = getComputedStyle(root).direction === "rtl";
  const left = towardsStart === rightToLeft ? button.left : button.right - width;
  const below = button.bottom + MARGIN;
  const fits = below + height <= innerHeight;
  list.style.left = `${Math.max(MARGIN, Math.min(left, innerWidth - width - MARGIN))}px`;
  list.style.top = `${fits ? below : Math.max(MARGIN, button.top - height - MARGIN)}px`;
}
