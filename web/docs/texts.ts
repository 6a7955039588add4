import type { Description } from "./openapi.ts";
import { REFERENCE, TEXTS } from "./place.ts";

/** What was fetched, or is being fetched, by its page: neither changes while the page is open. */
const texts = new Map<string, Promise<string>>();
let description: Promise<Description> | undefined;

export function textOf(page: string): Promise<string> {
  if (!TEXTS.some(([name]) => name === page)) return Promise.reject(new Error("there is no such text"));
  const known = texts.get(page);
  if (known) return known;
  const asked = fetched(`/docs/${page}.md`).then((response) => response.text());
  texts.set(page, asked);
  asked.catch(() => texts.delete(page));
  return asked;
}

/** The API, as the server describes it. */
export function apiDescription(): Promise<Description> {
  description ??= fetched("/api/v1/openapi.json").then((response) => response.json() as Promise<Description>);
  description.catch(() => (description = undefined));
  return description;
}

export type Content = { page: string; text: string } | { page: string; description: Description };

export async function contentOf(page: string): Promise<Content> {
  return page === REFERENCE ? { page, description: await apiDescription() } : { page, text: await textOf(page) };
}

async function fetched(path: string): Promise<Response> {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response;
}
