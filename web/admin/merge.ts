import type { Rule, Settings } from "./contract.ts";

/** Something that is otherwise in two versions of an app's settings. */
export interface Difference {
  /** "Rule chat:*: history". */
  what: string;
  before: string | undefined;
  after: string | undefined;
}

type Fields = Record<string, unknown>;

/** Lists whose items have a name, and are compared one by one. */
const NAMED: Record<string, { one: string; name: string }> = {
  rules: { one: "Rule", name: "channels" },
  keys: { one: "Key", name: "id" },
  hooks: { one: "Hook", name: "name" },
  oidc: { one: "Provider", name: "name" },
  calls: { one: "Call", name: "event" },
};

const WORDS: Record<string, string> = {
  guests: "Guests",
  accounts: "Accounts",
  origins: "Origins",
  recovery: "Recovery",
  jwks_url: "Key set",
  limits: "Limits",
};

export function same(one: unknown, other: unknown): boolean {
  return canonical(one) === canonical(other);
}

/** What would have to change in `before` to make it `after`. */
export function differences(before: Settings, after: Settings): Difference[] {
  const found: Difference[] = [];
  for (const key of keysOf(before as object as Fields, after as object as Fields)) {
    const [old, now] = [(before as object as Fields)[key], (after as object as Fields)[key]];
    if (same(old, now)) continue;
    const named = NAMED[key];
    if (named) found.push(...ofItems(named, items(old, named.name), items(now, named.name)));
    else found.push({ what: WORDS[key] ?? key, before: shown(old), after: shown(now) });
  }
  return found;
}

function ofItems({ one, name }: { one: string; name: string }, before: Map<string, Fields>, after: Map<string, Fields>): Difference[] {
  const found: Difference[] = [];
  for (const [key, old] of before) if (!after.has(key)) found.push({ what: `${one} ${key}`, before: shown(old, name), after: undefined });
  for (const [key, now] of after) {
    const old = before.get(key);
    if (!old) {
      found.push({ what: `${one} ${key}`, before: undefined, after: shown(now, name) });
      continue;
    }
    for (const field of keysOf(old, now)) {
      if (!same(old[field], now[field])) found.push({ what: `${one} ${key}: ${field.replaceAll("_", " ")}`, before: shown(old[field]), after: shown(now[field]) });
    }
  }
  const [order, wanted] = [[...before.keys()].filter((key) => after.has(key)), [...after.keys()].filter((key) => before.has(key))];
  if (!same(order, wanted)) found.push({ what: `Order of ${one.toLowerCase()}s`, before: order.join(" → "), after: wanted.join(" → ") });
  return found;
}

/** `theirs`, with everything that `mine` has changed since `base`. */
export function merged(base: Settings, mine: Settings, theirs: Settings): Settings {
  const [b, m, t] = [base, mine, theirs].map((settings) => settings as object as Fields) as [Fields, Fields, Fields];
  const result: Fields = {};
  for (const key of keysOf(b, m, t)) {
    const named = NAMED[key];
    const value = named ? mergedItems(named.name, b[key], m[key], t[key]) : pick(b[key], m[key], t[key]);
    if (value !== undefined) result[key] = value;
  }
  return result as object as Settings;
}

function mergedItems(name: string, base: unknown, mine: unknown, theirs: unknown): unknown {
  if (same(base, mine)) return theirs;
  if (same(base, theirs)) return mine;
  const [b, m, t] = [items(base, name), items(mine, name), items(theirs, name)];
  const kept = new Map<string, Fields>();
  for (const key of new Set([...m.keys(), ...t.keys()])) {
    const [was, my, their] = [b.get(key), m.get(key), t.get(key)];
    // Who has taken it away wins, unless the other one has changed it.
    if (!my && was && same(was, their)) continue;
    if (!their && was && same(was, my)) continue;
    kept.set(key, my && their ? fieldByField(was ?? {}, my, their) : (my ?? their)!);
  }
  const reordered = !same([...b.keys()], [...m.keys()]);
  const [first, second] = reordered ? [m, t] : [t, m];
  const order = [...first.keys()].filter((key) => kept.has(key));
  // An item that only the other one has goes behind the one that it is behind there.
  let behind = -1;
  for (const key of second.keys()) {
    if (!kept.has(key)) continue;
    const at = order.indexOf(key);
    behind = at >= 0 ? at : behind + 1;
    if (at < 0) order.splice(behind, 0, key);
  }
  return order.map((key) => kept.get(key));
}

function fieldByField(base: Fields, mine: Fields, theirs: Fields): Fields {
  const result: Fields = {};
  for (const key of keysOf(base, mine, theirs)) {
    const value = pick(base[key], mine[key], theirs[key]);
    if (value !== undefined) result[key] = value;
  }
  return result;
}

function pick(base: unknown, mine: unknown, theirs: unknown): unknown {
  return same(base, mine) ? theirs : mine;
}

function items(list: unknown, name: string): Map<string, Fields> {
  const found = new Map<string, Fields>();
  for (const item of (list ?? []) as Fields[]) {
    const base = String(item[name] || "without a name");
    let key = base;
    for (let again = 2; found.has(key); again += 1) key = `${base} (${again})`;
    found.set(key, item);
  }
  return found;
}

function keysOf(...all: Fields[]): string[] {
  return [...new Set(all.flatMap(Object.keys))];
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner && typeof inner === "object" && !Array.isArray(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner,
  ) ?? "";
}

/** A value in a few words. */
function shown(value: unknown, without?: string): string {
  if (value === undefined || value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map((one) => shown(one)).join(", ");
  if (typeof value === "object") {
    return Object.entries(value)
      .filter(([key]) => key !== without)
      .map(([key, inner]) => `${key.replaceAll("_", " ")}: ${shown(inner)}`)
      .join(" · ");
  }
  return String(value);
}

export const whoList = (who: Rule["subscribe"]): readonly string[] => (who === undefined ? [] : typeof who === "string" ? [who] : who);
