import { type Block, blocksOf, slug } from "./markdown.tsx";
import { apiDescription, textOf } from "./texts.ts";
import { PAGES, REFERENCE, TEXTS } from "./place.ts";

/** A place that can be found: a section of a text, or an operation of the API. */
export interface Entry {
  readonly page: string;
  readonly section: string | undefined;
  /** The page's title, and the section's. */
  readonly title: string;
  readonly heading: string;
  readonly text: string;
}

export interface Found extends Entry {
  /** Some of the text, around the first of the words. */
  readonly excerpt: string;
}

const MOST = 12;
const EXCERPT = 110;

/** Everything that there is to be found; what cannot be fetched is left out. */
export async function entriesOfAll(): Promise<Entry[]> {
  const titles = new Map(PAGES);
  const ofText = async (page: string) => sectionsOf(page, titles.get(page) ?? page, await textOf(page));
  const all = await Promise.allSettled([...TEXTS.map(([page]) => ofText(page)), operations(titles.get(REFERENCE) ?? REFERENCE)]);
  return all.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
}

/** A text's sections. */
export function sectionsOf(page: string, title: string, text: string): Entry[] {
  const sections: { heading: string; section: string | undefined; words: string[] }[] = [];
  for (const block of blocksOf(text)) {
    if (block.kind === "heading") {
      const heading = plain(block.text);
      sections.push({ heading, section: block.level === 1 ? undefined : slug(block.text), words: [] });
      continue;
    }
    const words = wordsOf(block);
    sections.at(-1)?.words.push(...words.map((one) => (block.kind === "code" ? one : plain(one))));
  }
  return sections.map(({ heading, section, words }) => ({ page, section, title, heading, text: words.join(" ").replaceAll(/\s+/g, " ") }));
}

function wordsOf(block: Block): string[] {
  if (block.kind === "list") return block.items;
  if (block.kind === "table") return [block.head, ...block.rows].flat();
  return [block.kind === "image" ? block.words : block.text];
}

async function operations(title: string): Promise<Entry[]> {
  const { paths } = await apiDescription();
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId, summary, description = "" }]) => ({
      page: REFERENCE,
      section: operationId,
      title,
      heading: `${method.toUpperCase()} ${path}`,
      text: `${summary}. ${plain(description)}`,
    })),
  );
}

/** The places that have every word of `query`, the likeliest first. */
export function search(entries: readonly Entry[], query: string): Found[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  const scored = entries.map((entry) => ({ entry, score: scoreOf(entry, words) })).filter(({ score }) => score > 0);
  scored.sort((one, other) => other.score - one.score);
  return scored.slice(0, MOST).map(({ entry }) => ({ ...entry, excerpt: excerptOf(entry.text, words) }));
}

/** 0 when a word is missing; what a heading says counts for more than what is said below it. */
function scoreOf({ title, heading, text }: Entry, words: readonly string[]): number {
  let score = 0;
  for (const word of words) {
    const inHeading = occurrences(heading.toLowerCase(), word);
    const inTitle = occurrences(title.toLowerCase(), word);
    const inText = Math.min(occurrences(text.toLowerCase(), word), 5);
    if (inHeading + inTitle + inText === 0) return 0;
    score += 12 * Math.min(inHeading, 1) + 6 * Math.min(inTitle, 1) + inText;
  }
  return score;
}

function occurrences(text: string, word: string): number {
  return text.split(word).length - 1;
}

function excerptOf(text: string, words: readonly string[]): string {
  const places = words.map((word) => text.toLowerCase().indexOf(word)).filter((at) => at >= 0);
  const from = Math.max(0, Math.min(...places, text.length) - 30);
  const start = from === 0 ? 0 : text.indexOf(" ", from) + 1;
  const end = start + EXCERPT;
  return `${start > 0 ? "… " : ""}${text.slice(start, end)}${end < text.length ? " …" : ""}`;
}

/** Without the marks of Markdown. */
function plain(text: string): string {
  return text.replaceAll(/!?\[([^\]]+)\]\([^)\s]+\)/g, "$1").replaceAll(/[`*]/g, "");
}
