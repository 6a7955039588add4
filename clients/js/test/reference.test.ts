import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

// Compiled into build/test.
const HOME = join(import.meta.dirname, "../..");
const reference = readFileSync(join(HOME, "../../docs/client.md"), "utf8").replaceAll(/^```[^]*?^```$/gm, "");
const source = (name: string) => readFileSync(join(HOME, "src", `${name}.ts`), "utf8");

/** What stands between the braces of a declaration. */
function bodyOf(text: string, declaration: string): string {
  const [, rest] = text.split(`\nexport ${declaration} `);
  assert.ok(rest, declaration);
  return rest.slice(rest.indexOf("{") + 1, rest.indexOf("\n}"));
}

/** The public members of a class, or the keys of an interface: what is indented by one step and is neither private nor internal. */
function namesOf(body: string): string[] {
  const open = body.replaceAll(/ {2}\/\*\*\s+(?:\* )?@internal[^]*?\*\/\n {2}[^\n]*/g, "");
  const names = [...open.matchAll(/^ {2}(?:(?:readonly|async|get) )*(?!constructor\b|(?:readonly|async|get|protected) )([a-z]\w*)[?(:< ]/gm)];
  return [...new Set(names.map(([, name]) => name ?? ""))];
}

const section = (title: string) => reference.split(/^## /m).find((part) => part.startsWith(title)) ?? assert.fail(title);

for (const [title, file, declaration] of [
  ["connect", "client", "interface ClientOptions"],
  ["connect", "protocol", "interface Credentials"],
  ["Client", "client", "class Client"],
  ["Client", "client", "interface ClientEvents"],
  ["Channel", "channel", "class Channel"],
  ["Channel", "channel", "interface ChannelEvents"],
  ["Channel", "channel", "interface SubscribeOptions"],
  ["Channel", "channel", "interface PublishOptions"],
  ["Timeline", "timeline", "class Timeline"],
  ["Timeline", "timeline", "interface TimelineEntry"],
  ["Account", "account", "class Account"],
  ["Account", "account", "interface AccountEvents"],
] as const) {
  test(`docs/client.md tells of all of ${declaration}`, () => {
    const names = namesOf(bodyOf(source(file), declaration));
    assert.ok(names.length > 0);
    const code = [...section(title).matchAll(/`([^`]+)`/g)].map(([, text]) => text).join(" ");
    assert.deepEqual(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(code)), []);
  });
}
