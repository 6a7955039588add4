import type { ComponentChildren } from "preact";
import { Code } from "../ui/code.tsx";
import { CopyButton } from "../ui/copy_button.tsx";
import { TEXTS, hrefOf } from "./place.ts";

/** A part of a text: what the texts of docs/ are written with, and no more. Everything else stays as it was typed; nothing becomes HTML. */
export type Block =
  | { kind: "heading"; level: number; text: string }
  | { kind: "paragraph"; text: string }
  | { kind: "code"; language: string; text: string }
  | { kind: "image"; words: string; target: string }
  | { kind: "list"; ordered: boolean; items: string[] }
  | { kind: "table"; head: string[]; rows: string[][] };

const HEADING = /^(#{1,6}) +(.*)$/;
const ITEM = /^ {0,3}(?:[-*]|(\d+)\.) +(.*)$/;
/** Alone on its line. */
const IMAGE = /^!\[([^\]]*)\]\(([^)\s]+)\)$/;
const RULE = /^\|[ :|-]+\|$/;

export function blocksOf(text: string): Block[] {
  const lines = text.replaceAll("\r", "").split("\n");
  const blocks: Block[] = [];
  let at = 0;
  const until = (ends: (line: string) => boolean): string[] => {
    const from = at;
    while (at < lines.length && !ends(lines[at] ?? "")) at++;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at] ?? "";
    const heading = HEADING.exec(line);
    if (line.trim() === "") {
      at++;
    } else if (heading) {
      blocks.push({ kind: "heading", level: heading[1]?.length ?? 1, text: heading[2] ?? "" });
      at++;
    } else if (line.startsWith("```")) {
      at++;
      // What stands behind the language is for tests.
      const language = line.slice(3).split(" ", 1)[0] ?? "";
      blocks.push({ kind: "code", language, text: until((one) => one.startsWith("```")).join("\n") });
      at++;
    } else if (IMAGE.test(line)) {
      const [, words = "", target = ""] = IMAGE.exec(line) ?? [];
      blocks.push({ kind: "image", words, target });
      at++;
    } else if (line.startsWith("|") && RULE.test(lines[at + 1] ?? "")) {
      const [head = [], , ...rows] = until((one) => !one.startsWith("|")).map(cells);
      blocks.push({ kind: "table", head, rows });
    } else if (ITEM.test(line)) {
      const items: string[] = [];
      const ordered = ITEM.exec(line)?.[1] !== undefined;
      for (const one of until((one) => one.trim() === "" || HEADING.test(one) || one.startsWith("```"))) {
        const item = ITEM.exec(one);
        if (item) items.push(item[2] ?? "");
        else items.push(`${items.pop() ?? ""} ${one.trim()}`);
      }
      blocks.push({ kind: "list", ordered, items });
    } else {
      const words = until((one) => one.trim() === "" || HEADING.test(one) || one.startsWith("```") || ITEM.test(one) || one.startsWith("|"));
      // A line that looks like the beginning of something, and is none.
      if (words.length === 0) words.push(lines[at++] ?? "");
      blocks.push({ kind: "paragraph", text: words.join(" ") });
    }
  }
  return blocks;
}

/** Between the bars; `\|` is none. */
function cells(line: string): string[] {
  return line.slice(1).replace(/\|\s*$/, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** As GitHub names a heading in a link. */
export function slug(text: string): string {
  return text.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replaceAll(/\s/g, "-");
}

export function Markdown({ text, page }: { text: string; page: string }) {
  return <>{blocksOf(text).map((block) => render(block, page))}</>;
}

function render(block: Block, page: string): ComponentChildren {
  switch (block.kind) {
    case "heading": {
      const id = slug(block.text);
      const content = inline(block.text, page);
      if (block.level === 1) return <h1 id={id}>{content}</h1>;
      const anchor = <a class="anchor" href={hrefOf(page, id)} aria-label={`Link to “${block.text.replaceAll(/[`*]/g, "")}”`} />;
      return block.level === 2 ? (
        <h2 id={id}>
          {content}
          {anchor}
        </h2>
      ) : (
        <h3 id={id}>
          {content}
          {anchor}
        </h3>
      );
    }
    case "paragraph":
      return <p>{inline(block.text, page)}</p>;
    case "code":
      return (
        <div class="example card">
          <Code text={block.text} label={block.language === "text" ? "What it prints" : "An example"} />
          {block.language !== "text" && block.language !== "" && <CopyButton text={block.text} what="the example" />}
        </div>
      );
    case "image":
      // Pictures lie beside the texts, and nowhere else.
      return /^[a-z-]+\/[a-z0-9-]+\.(svg|webp)$/.test(block.target) ? <img src={`/docs/${block.target}`} alt={block.words} /> : <p>{block.words}</p>;
    case "list": {
      const items = block.items.map((item) => <li>{inline(item, page)}</li>);
      return block.ordered ? <ol>{items}</ol> : <ul>{items}</ul>;
    }
    case "table":
      return (
        <div class="wide" tabIndex={0} role="group" aria-label="A table">
          <table>
            <thead>
              <tr>{block.head.map((cell) => (cell === "" ? <td /> : <th scope="col">{inline(cell, page)}</th>))}</tr>
            </thead>
            <tbody>
              {block.rows.map((row) => (
                <tr>{row.map((cell) => <td>{inline(cell, page)}</td>)}</tr>
              ))}
            </tbody>
          </table>
        </div>
      );
  }
}

const INLINE = /<(https?:\/\/[^>\s]+)>|`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|!?\[([^\]]+)\]\(([^)\s]+)\)/g;

export function inline(text: string, page: string): ComponentChildren[] {
  const parts: ComponentChildren[] = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, address, code, strong, soft, words, target] = match;
    parts.push(text.slice(end, match.index));
    end = match.index + whole.length;
    if (address !== undefined) parts.push(link(address, address, page));
    else if (code !== undefined) parts.push(<code>{code}</code>);
    else if (strong !== undefined) parts.push(<strong>{inline(strong, page)}</strong>);
    else if (soft !== undefined) parts.push(<em>{inline(soft, page)}</em>);
    else if (words !== undefined && target !== undefined) parts.push(link(words, target, page));
  }
  parts.push(text.slice(end));
  return parts;
}

/** To another text, or to the web; what lies elsewhere in the repository cannot be followed from here. */
function link(words: string, target: string, page: string): ComponentChildren {
  const content = inline(words, page);
  if (/^https?:\/\//.test(target)) {
    return (
      <a href={target} rel="noopener noreferrer nofollow">
        {content}
      </a>
    );
  }
  const [file, section] = target.split("#", 2);
  const name = file === "" ? page : /^([A-Za-z-]+)\.md$/.exec(file ?? "")?.[1];
  if (name === undefined || !TEXTS.some(([text]) => text === name)) return <>{content}</>;
  return <a href={hrefOf(name, section)}>{content}</a>;
}
