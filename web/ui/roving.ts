/** Moves the focus among the elements of a list that match `selector`: arrows, Home and End. Each has `tabIndex={-1}` but the current one. */
export function rove(event: KeyboardEvent, selector: string): void {
  const list = event.currentTarget as HTMLElement;
  const items = [...list.querySelectorAll<HTMLElement>(selector)];
  const at = items.findIndex((item) => item === document.activeElement || item.contains(document.activeElement));
  const last = items.length - 1;
  const targets: Record<string, number> = { ArrowDown: at === last ? 0 : at + 1, ArrowUp: at <= 0 ? last : at - 1, Home: 0, End: last };
  const target = targets[event.key];
  if (target === undefined || !items[target]) return;
  event.preventDefault();
  items[target].focus();
}
