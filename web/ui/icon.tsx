const PATHS = {
  alert: "M8 2.2 14.6 13.5H1.4ZM8 6.5v3.2M8 11.6v.1",
  arrowDown: "M8 3v10M3.8 8.8 8 13l4.2-4.2",
  check: "M3 8.5 6.5 12 13 4.5",
  checks: "M1.2 8.8 4.4 12 10.6 4.8M7.2 10.8 8.4 12 14.8 4.8",
  clock: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM8 4.8V8l2.2 1.4",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  cut: "M1.8 8h3.4M10.8 8h3.4M6.3 5.2 9.7 10.8M9.7 5.2 6.3 10.8",
  edit: "M3 13l.6-3L10.8 2.8a1.4 1.4 0 0 1 2 0l.4.4a1.4 1.4 0 0 1 0 2L6 12.4ZM9.4 4.2l2.4 2.4",
  external: "M6.5 3.5h-3v9h9v-3M9.5 2.5h4v4M13.5 2.5 7.5 8.5",
  link: "M1.8 8h12.4M5 4.8 1.8 8 5 11.2M11 4.8 14.2 8 11 11.2",
  moon: "M13.4 9.6A5.8 5.8 0 1 1 6.4 2.6a4.6 4.6 0 0 0 7 7Z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  search: "M7 2.2a4.8 4.8 0 1 0 0 9.6 4.8 4.8 0 0 0 0-9.6ZM10.5 10.5 14 14",
  send: "M2.2 3 14 8 2.2 13l2-5ZM4.2 8H9",
  trash: "M2.5 4.2h11M6 4V2.5h4V4M4 4.2l.6 9.3h6.8l.6-9.3M6.6 6.8v4M9.4 6.8v4",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6ZM8 1.2v1.4M8 13.4v1.4M1.2 8h1.4M13.4 8h1.4M3.2 3.2l1 1M11.8 11.8l1 1M3.2 12.8l1-1M11.8 4.2l1-1",
} as const;

export type IconName = keyof typeof PATHS;

/** A drawing beside words; it never stands for them, so screen readers skip it. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
