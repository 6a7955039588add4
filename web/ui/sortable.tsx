import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { Icon } from "./icon.tsx";

export interface SortableProps<T> {
  label: string;
  items: readonly T[];
  keyOf(item: T): string;
  nameOf(item: T): string;
  render(item: T, index: number): ComponentChildren;
  /** `from` goes to the place `to` of the list without it. */
  onMove(from: number, to: number): void;
  /** Classes for an item. */
  classOf?(item: T, index: number): string;
}

/** A list whose order matters: by a grip under the pointer, or by the arrow keys on it. */
export function Sortable<T>({ label, items, keyOf, nameOf, render, onMove, classOf }: SortableProps<T>) {
  const list = useRef<HTMLOListElement>(null);
  const [dragged, setDragged] = useState<string>();
  const [said, say] = useState("");

  function move(from: number, to: number): void {
    const item = items[from];
    if (!item || to < 0 || to >= items.length || to === from) return;
    onMove(from, to);
    say(`${nameOf(item)}, now ${to + 1} of ${items.length}`);
  }

  function byKey(event: KeyboardEvent, index: number): void {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const grip = event.currentTarget as HTMLElement;
    move(index, index + step);
    // The element moves in the list and loses the focus by it.
    requestAnimationFrame(() => grip.focus());
  }

  function begin(event: PointerEvent, key: string): void {
    if (event.button !== 0) return;
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    setDragged(key);
  }

  function drag(event: PointerEvent): void {
    if (dragged === undefined || !list.current) return;
    const from = items.findIndex((item) => keyOf(item) === dragged);
    const rows = [...list.current.children];
    const over = rows.findIndex((row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return event.clientY >= top && event.clientY <= bottom;
    });
    if (over < 0 || over === from) return;
    // Not before the pointer is past the middle, or rows of different heights would change places to and fro.
    const { top, height } = rows[over]!.getBoundingClientRect();
    if (over > from ? event.clientY > top + height / 2 : event.clientY < top + height / 2) move(from, over);
  }

  return (
    <>
      <ol class="sortable" aria-label={label} ref={list}>
        {items.map((item, index) => (
          <li key={keyOf(item)} class={`sortable-item ${keyOf(item) === dragged ? "dragged" : ""} ${classOf?.(item, index) ?? ""}`}>
            <button
              type="button"
              class="grip"
              aria-label={`Move ${nameOf(item)}, ${index + 1} of ${items.length}: arrow keys`}
              onKeyDown={(event) => byKey(event, index)}
              onPointerDown={(event) => begin(event, keyOf(item))}
              onPointerMove={drag}
              onPointerUp={() => setDragged(undefined)}
              onPointerCancel={() => setDragged(undefined)}
            >
              <Icon name="grip" />
            </button>
            {render(item, index)}
          </li>
        ))}
      </ol>
      <span class="unseen" role="status">
        {said}
      </span>
    </>
  );
}
