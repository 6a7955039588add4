/** What the page shows: `#protocol/names` is the section `names` of docs/protocol.md; `#reference` is the API's own description. */
export interface Place {
  page: string;
  section: string | undefined;
}

export const REFERENCE = "reference";
export const START = "README";

type Entry = readonly [name: string, title: string];

/** What there is to read, in the order in which one may want it. */
export const GROUPS: readonly (readonly [heading: string, entries: readonly Entry[]])[] = [
  [
    "Begin",
    [
      [START, "Start here"],
      ["tutorial", "A messenger in 15 minutes"],
      ["channels", "Channels and history"],
      ["tokens", "Tokens and permissions"],
      ["where-my-code-goes", "Where my server code goes"],
    ],
  ],
  [
    "Guides",
    [
      ["coming-from-socketio", "Coming from Socket.IO"],
      ["accounts", "Accounts and devices"],
      ["api", "HTTP API: a tour"],
      ["hooks", "Hooks and calls"],
      ["files", "Files"],
      ["search", "Search"],
      ["administration", "Administration"],
      ["admin-page", "The administration page"],
      ["deploying", "Deploying"],
      ["cluster", "Several servers"],
      ["placement", "Placement"],
      ["mongodb", "MongoDB"],
    ],
  ],
  [
    "Reference",
    [
      ["protocol", "Protocol"],
      [REFERENCE, "HTTP API"],
      ["client", "JavaScript client"],
      ["access", "Access in detail"],
      ["configuration", "Configuration"],
      ["errors", "Errors"],
      ["benchmarks", "Benchmarks"],
      ["soak", "Long runs"],
    ],
  ],
];

/** All of it, one after the other. */
export const PAGES: readonly Entry[] = GROUPS.flatMap(([, entries]) => entries);

/** The texts that the binary has: `NAME.md`. */
export const TEXTS: readonly Entry[] = PAGES.filter(([name]) => name !== REFERENCE);

export function placeOf(hash: string): Place {
  const [page, section] = decodeURIComponent(hash.replace(/^#/, "")).split("/", 2);
  return { page: page || START, section: section || undefined };
}

export function hrefOf(page: string, section?: string): string {
  return `#${page}${section ? `/${section}` : ""}`;
}
