/** A figure in the reader's way, short: 1,234 · 12.3 k · 4.5 M. */
export function short(value: number): string {
  if (value < 10_000) return figure(value);
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

export function figure(value: number): string {
  return new Intl.NumberFormat("en", { maximumFractionDigits: value < 10 && value % 1 !== 0 ? 1 : 0 }).format(value);
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1_000 && at < units.length - 1) {
    value /= 1_000;
    at += 1;
  }
  return `${figure(value)} ${units[at]}`;
}

/** "3 minutes ago"; the moment itself belongs into a title. */
export function ago(at: number, now = Date.now()): string {
  const seconds = Math.round((at - now) / 1_000);
  const format = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, length] of [["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3_600], ["minute", 60]] as const) {
    if (Math.abs(seconds) >= length) return format.format(Math.trunc(seconds / length), unit);
  }
  return seconds > -5 ? "just now" : format.format(seconds, "second");
}

export function moment(at: number): string {
  return new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

export function clock(at: number): string {
  return new Date(at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

/** "1 user", "2 users". */
export function count(value: number, one: string, many = `${one}s`): string {
  return `${short(value)} ${value === 1 ? one : many}`;
}
