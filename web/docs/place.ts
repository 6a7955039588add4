/** What the page shows: `#protocol/names` is the section `names` of docs/protocol.md; `#api` is the API's own description. */
export interface Place {
  page: string;
  section: string | undefined;
}

/** The texts that the binary has, in the order in which one may want them. */
export const TEXTS: readonly (readonly [name: string, title: string])[] = [
  ["api", "HTTP API: a tour"],
  ["where-my-code-goes", "Where my server code goes"],
  ["coming-from-socketio", "Coming from Socket.IO"],
  ["hooks", "Hooks"],
  ["protocol", "Protocol"],
  ["access", "Access"],
  ["accounts", "Accounts and devices"],
  ["administration", "Administration"],
  ["errors", "Errors"],
  ["configuration", "Configuration"],
  ["cluster", "Several servers"],
  ["placement", "Placement"],
  ["mongodb", "MongoDB"],
  ["benchmarks", "Benchmarks"],
];

export const REFERENCE = "reference";

export function placeOf(hash: string): Place {
  const [page, section] = decodeURIComponent(hash.replace(/^#/, "")).split("/", 2);
  return { page: page || REFERENCE, section: section || undefined };
}
