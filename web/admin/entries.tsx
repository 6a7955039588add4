import { Badge } from "../ui/badge.tsx";
import { Blank } from "../ui/blank.tsx";
import { Drawing } from "../ui/drawing.tsx";
import { Icon, type IconName } from "../ui/icon.tsx";
import type { Entry } from "./contract.ts";
import { href } from "./place.ts";
import { Ago } from "./time.tsx";

const WHAT: Record<string, readonly [words: string, icon: IconName]> = {
  sign_in: ["signed in", "user"],
  sign_out: ["signed out", "leave"],
  sign_in_refused: ["was not let in", "alert"],
  set_up: ["set this installation up", "check"],
  "app.create": ["made the app", "plus"],
  "app.change": ["changed the app", "settings"],
  "app.delete": ["deleted the app", "trash"],
  "app.restore": ["restored the app", "refresh"],
  "rules.change": ["changed the rules of", "rule"],
  "origins.change": ["changed the origins of", "settings"],
  "signing_key.add": ["added the signing key", "key"],
  "signing_key.remove": ["removed the signing key", "key"],
  "api_key.create": ["made the API key", "key"],
  "api_key.rotate": ["rotated the API key", "key"],
  "api_key.revoke": ["revoked the API key", "key"],
  "user.create": ["made the user", "user"],
  "user.change": ["changed the user", "user"],
  "user.ban": ["banned the user", "user"],
  "user.unban": ["let the user in again", "user"],
  "user.password": ["changed the password of", "user"],
  "user.revoke": ["ended the connections of", "user"],
  "user.delete": ["erased the user", "trash"],
  "device.revoke": ["logged out the device", "user"],
  "user.block": ["let the user hear no more from", "cut"],
  "user.unblock": ["let the user hear again from", "user"],
  "members.change": ["changed the members of", "users"],
  "message.publish": ["published in", "send"],
  "message.delete": ["deleted a message in", "trash"],
  "channel.tail": ["listened to", "play"],
  "hook.test": ["tested the hook", "hook"],
  "file.delete": ["deleted the file", "file"],
  "server.drain": ["is emptying the server", "server"],
  "server.undrain": ["let clients to the server again", "server"],
  "server.rebalance": ["had clients follow the load", "server"],
  "epoch.new": ["began a new epoch", "refresh"],
  "store.restore": ["restored the store from", "refresh"],
};

/** What was done, the newest first. */
export function Entries({ entries, short }: { entries: readonly Entry[]; short?: boolean }) {
  if (entries.length === 0) {
    return (
      <Blank title="Nothing yet" drawing={<Drawing name="audit" />}>
        Whatever operators, keys and the command line change is written down here.
      </Blank>
    );
  }
  return (
    <ol class="entries">
      {entries.map((entry) => (
        <Line key={entry.id} entry={entry} short={short ?? false} />
      ))}
    </ol>
  );
}

function Line({ entry, short }: { entry: Entry; short: boolean }) {
  const [words, icon] = WHAT[entry.what] ?? [entry.what.replaceAll(/[._]/g, " "), "audit" as const];
  const differences = short ? [] : differing(entry);
  return (
    <li class="entry" data-testid="entry" data-what={entry.what}>
      <span class={entry.outcome === "refused" ? "entry-sign bad" : "entry-sign"}>
        <Icon name={entry.outcome === "refused" ? "alert" : icon} />
      </span>
      <div class="entry-words">
        <p>
          <strong title={entry.name && entry.by}>{entry.name ?? entry.by}</strong> {words} {entry.target && entry.target !== entry.app && <code>{entry.target}</code>}
          {entry.app && (
            <>
              {" "}
              {entry.target && entry.target !== entry.app && <span class="soft">in </span>}
              <a href={href("apps", entry.app, "connect")}>{entry.app}</a>
            </>
          )}
          {entry.outcome === "refused" && <Badge kind="bad" icon="alert">refused{entry.code && `: ${entry.code}`}</Badge>}
          {entry.outcome === "begun" && <Badge kind="warn">not completed</Badge>}
        </p>
        {entry.note && <p class="soft">“{entry.note}”</p>}
        {differences.length > 0 && (
          <details>
            <summary>{differences.length === 1 ? "What was changed" : `${differences.length} settings`}</summary>
            <dl class="changes">
              {differences.map(([what, before, after]) => (
                <div key={what}>
                  <dt>{what}</dt>
                  <dd class="before">
                    <span>Before</span>
                    <pre>{before}</pre>
                  </dd>
                  <dd class="after">
                    <span>After</span>
                    <pre>{after}</pre>
                  </dd>
                </div>
              ))}
            </dl>
          </details>
        )}
      </div>
      <p class="entry-when soft">
        {!short && <span class="badge">{entry.via}</span>} <Ago at={entry.at} />
      </p>
    </li>
  );
}

/** What it was before and after, by setting. */
function differing({ before, after, what }: Entry): [what: string, before: string, after: string][] {
  const [old, now] = [fields(before), fields(after)];
  if (!old && !now) return before === undefined && after === undefined ? [] : [[what, text(before), text(after)]];
  return [...new Set([...Object.keys(old ?? {}), ...Object.keys(now ?? {})])].map((key) => [key, text(old?.[key]), text(now?.[key])]);
}

function fields(value: unknown): Record<string, unknown> | undefined {
  return value && typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}

function text(value: unknown): string {
  if (value === undefined || value === null) return "–";
  return typeof value === "string" ? value : JSON.stringify(value, null, 1).replaceAll(/\n\s*/g, " ");
}
