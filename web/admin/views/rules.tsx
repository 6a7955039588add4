import { useEffect, useState } from "preact/hooks";
import { Badge } from "../../ui/badge.tsx";
import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { Choice, SwitchField, TextField } from "../../ui/field.tsx";
import { Icon } from "../../ui/icon.tsx";
import { Sortable } from "../../ui/sortable.tsx";
import * as api from "../api.ts";
import { NEW_RULE, type Complaint, type Keep, type Rule, type Verdict } from "../contract.ts";
import type { Draft } from "../draft.ts";
import { useLoad } from "../load.tsx";
import { same } from "../merge.ts";
import { go, href } from "../place.ts";
import type { AppViewProps } from "../shown.tsx";
import { View } from "../view.tsx";
import { WhoField, whoWords } from "../who.tsx";
import { WithDraft } from "../with_draft.tsx";

/** After how long without another key the tester asks. */
const TYPING_MS = 200;

/** What the server calls what one may do, in the order in which it is told. */
const MAY: Record<string, string> = {
  subscribe: "subscribe",
  publish: "publish",
  history: "read history",
  presence: "see presence",
  moderate: "moderate",
  invite: "invite",
  create: "found",
};

const HISTORY = { none: "No history", recent: "Recent history", durable: "Durable history" } as const;

const ACTIONS = [
  ["subscribe", "Subscribe", "Follow it: messages, signals, receipts."],
  ["publish", "Publish", "Messages and signals; edit and delete one's own."],
  ["read_history", "Read history", "What was said before."],
  ["see_presence", "See presence", "Who is there."],
  ["moderate", "Moderate", "Edit and delete what others have said."],
] as const;

const OF_MEMBERS = [
  ["invite", "Invite", "Add and remove members."],
  ["create", "Found", "Make a new channel by adding to one without members."],
] as const;

/** What channels are, by their names: in order, the first that matches holds. */
export function Rules({ app, at }: AppViewProps) {
  return (
    <View title="Rules" app={app} lead="What a channel is, and who may use it, by its name. The first rule that matches holds.">
      <WithDraft app={app} what="Rules">
        {(draft) => <Editor draft={draft} at={at} />}
      </WithDraft>
    </View>
  );
}

function Editor({ draft, at }: { draft: Draft; at: string | undefined }) {
  const rules = draft.mine.value.rules;
  const chosen = at === undefined ? undefined : Number(at);
  const rule = chosen === undefined ? undefined : rules[chosen];
  const [asked, ask] = useState<Asked>({ channel: "", user: "" });
  const verdict = useVerdict(draft, asked);
  const matching = verdict?.data?.rule?.index;

  const put = (next: readonly Rule[]) => draft.change({ rules: next });
  const open = (index: number) => go("apps", draft.app, "rules", String(index));

  function add(): void {
    // In front: one that stands behind a pattern that reaches it would never hold.
    put([{ ...NEW_RULE }, ...rules]);
    open(0);
  }

  function move(from: number, to: number): void {
    const next = [...rules];
    next.splice(to, 0, ...next.splice(from, 1));
    put(next);
    if (chosen === undefined) return;
    const now = next.indexOf(rules[chosen]!);
    if (now !== chosen) open(now);
  }

  return (
    <div class={rule ? "split chosen" : "split"}>
      <div class="split-list">
        <Tester asked={asked} ask={ask} verdict={verdict} />
        <div class="card">
          <header class="card-head">
            <h2>
              {rules.length} {rules.length === 1 ? "rule" : "rules"}
            </h2>
            <Button small icon="plus" onClick={add} testId="rule-add">
              Add a rule
            </Button>
          </header>
          {rules.length === 0 ? (
            <Blank
              title="No rules yet"
              drawing={<Drawing name="rules" />}
              actions={
                <Button kind="primary" icon="plus" onClick={add}>
                  Add the first rule
                </Button>
              }
            >
              A channel that no rule matches cannot be used, so nobody can say anything here.
            </Blank>
          ) : (
            <Sortable
              label="Rules, in the order in which they are tried"
              items={rules.map((rule, index) => ({ rule, index }))}
              keyOf={({ rule, index }) => keyOf(rules, rule, index)}
              nameOf={({ rule }) => rule.channels || "the new rule"}
              onMove={move}
              classOf={({ index }) => [index === chosen && "chosen", index === matching && "matching"].filter(Boolean).join(" ")}
              render={({ rule, index }) => (
                <a class="rule-line" href={href("apps", draft.app, "rules", String(index))} aria-current={index === chosen || undefined} data-testid="rule">
                  <span class="rule-name">
                    <code>{rule.channels || "new rule"}</code>
                    {index === matching && <span class="badge accent">applies</span>}
                    {changedSince(draft, rule) && <span class="unsaved" title="Not saved yet" />}
                  </span>
                  <span class="rule-words">{inWords(rule)}</span>
                </a>
              )}
            />
          )}
        </div>
      </div>
      <div class="split-detail">
        {rule && chosen !== undefined ? (
          <OneRule
            key={chosen}
            rule={rule}
            back={href("apps", draft.app, "rules")}
            complaints={draft.complaints(`rules.${chosen}`)}
            change={(part) => put(rules.map((one, index) => (index === chosen ? trimmed({ ...one, ...part }) : one)))}
            remove={() => {
              put(rules.filter((_, index) => index !== chosen));
              go("apps", draft.app, "rules");
            }}
          />
        ) : (
          rules.length > 0 && (
            <div class="card hollow">
              <Blank title="Choose a rule" drawing={<Drawing name="rules" />}>
                Its history, presence and permissions are shown here.
              </Blank>
            </div>
          )
        )}
      </div>
    </div>
  );
}

interface Asked {
  channel: string;
  user: string;
}

function Tester({ asked, ask, verdict }: { asked: Asked; ask(asked: Asked): void; verdict: ReturnType<typeof useVerdict> }) {
  return (
    <section class="card tester" aria-labelledby="tester-title">
      <h2 id="tester-title">What would apply to this channel?</h2>
      <div class="form-row">
        <TextField
          label="Channel"
          value={asked.channel}
          onChange={(channel) => ask({ ...asked, channel })}
          mono
          placeholder="chat:lobby"
          spellcheck={false}
          autocapitalize="none"
          error={verdict?.failure?.message}
          testId="tester-channel"
        />
        <TextField
          label="To this user"
          value={asked.user}
          onChange={(user) => ask({ ...asked, user })}
          mono
          placeholder="anybody"
          spellcheck={false}
          autocapitalize="none"
          testId="tester-user"
        />
      </div>
      <div role="status" data-testid="tester-verdict">{verdict?.data && <Said verdict={verdict.data} />}</div>
      <p class="hint">Asked of the server, with what is not saved yet.</p>
    </section>
  );
}

function Said({ verdict: { rule, settings, everyone, user } }: { verdict: Verdict }) {
  if (!rule) {
    return (
      <p class="note bad">
        <Icon name="alert" /> No rule matches: this channel cannot be used.
      </p>
    );
  }
  return (
    <>
      <p class="note good">
        <Icon name="check" />
        <span>
          Rule {rule.index + 1}, <code>{rule.channels}</code>
          {rule.shadowed.length > 0 && (
            <span class="soft">
              {" "}
              · stands before{" "}
              {rule.shadowed.map(({ channels }, index) => (
                <>
                  {index > 0 && ", "}
                  <code>{channels}</code>
                </>
              ))}
            </span>
          )}
        </span>
      </p>
      <dl class="facts">
        {(settings ?? []).map(({ name, value, reason }) => (
          <div key={name} title={reason}>
            <dt>{name}</dt>
            <dd>{value === true ? "yes" : value === false ? "no" : String(value)}</dd>
          </div>
        ))}
      </dl>
      <h3 class="facts-title">{user ? `What ${user.user} may` : "Who may"}</h3>
      <dl class="facts">
        {user
          ? user.may.map(({ action, allowed, reason }) => (
              <div key={action}>
                <dt>{MAY[action] ?? action}</dt>
                <dd>
                  <Badge kind={allowed ? "good" : "bad"}>{allowed ? "may" : "may not"}</Badge>
                  <small class="soft">{reason}</small>
                </dd>
              </div>
            ))
          : Object.entries(MAY).flatMap(([action, words]) => {
              const who = everyone?.[action];
              return who ? [
                <div key={action}>
                  <dt>{words}</dt>
                  <dd>{who.text}</dd>
                </div>,
              ] : [];
            })}
      </dl>
    </>
  );
}

interface OneRuleProps {
  rule: Rule;
  back: string;
  complaints: readonly Complaint[];
  change(part: Partial<Rule>): void;
  remove(): void;
}

function OneRule({ rule, back, complaints, change, remove }: OneRuleProps) {
  const history = rule.history ?? "none";
  const keep = rule.keep ?? {};
  const ofMembers = ["subscribe", "publish", "read_history", "see_presence"].some((key) => [rule[key as "subscribe"]].flat().includes("members"));
  const keeps = (part: Keep) => change({ keep: trimmed({ ...keep, ...part }) });
  return (
    <section class="card rule" aria-label={`Rule ${rule.channels}`}>
      <header class="card-head">
        <a class="button quiet small square back" href={back} aria-label="Back to the rules">
          <Icon name="chevronLeft" />
        </a>
        <h2>
          <code>{rule.channels || "New rule"}</code>
        </h2>
        <Button kind="danger" small icon="trash" onClick={remove} testId="rule-remove">
          Remove
        </Button>
      </header>
      <div class="form">
        {complaints.map(({ path, message }) => (
          <p class="note bad" role="alert" key={path}>
            <Icon name="alert" /> {message}
          </p>
        ))}
        <TextField
          label="Channels"
          hint={
            <>
              A name, in which <code>*</code> stands for any characters: <code>chat:*</code>. A user's own channels are <code>@*</code>.
            </>
          }
          value={rule.channels}
          onChange={(channels) => change({ channels })}
          mono
          spellcheck={false}
          autocapitalize="none"
          maxLength={128}
          autofocus={rule.channels === ""}
          testId="rule-channels"
        />
        <Choice
          label="History"
          hint={HISTORY_HINTS[history]}
          value={history}
          options={Object.entries(HISTORY).map(([key, words]) => [key as keyof typeof HISTORY, words.split(" ")[0]!.replace("No", "None")] as const)}
          onChange={(next) => change(next === "none" ? { history: next, keep: NOTHING } : { history: next })}
          testId="rule-history"
        />
        {history !== "none" && (
          <fieldset class="form-row">
            <legend>Kept until one of these is reached</legend>
            <TextField label="Messages" inputMode="numeric" placeholder="no bound" value={String(keep.count ?? "")} onChange={(text) => keeps({ count: /^\d+$/.test(text) ? Number(text) : undefined } as Keep)} />
            <TextField label="Bytes" placeholder="1GB" value={String(keep.bytes ?? "")} onChange={(text) => keeps({ bytes: text || undefined } as Keep)} />
            <TextField label="Age" placeholder="365d" value={keep.age ?? ""} onChange={(text) => keeps({ age: text || undefined } as Keep)} />
          </fieldset>
        )}
        <SwitchField label="Presence" hint="Subscribers are counted and listed." on={rule.presence ?? false} onChange={(presence) => change({ presence })} testId="rule-presence" />
        <SwitchField label="Notifications" hint="Members hear of messages in channels that they do not follow at the moment." on={rule.notify ?? false} onChange={(notify) => change({ notify })} />
        {rule.history === "durable" && <SwitchField label="Search" hint="Whoever may read the history finds messages by their words. The index takes about as much disk as they do." on={rule.search ?? false} onChange={(search) => change({ search })} />}
        <div class="permissions">
          <h3>Who may</h3>
          {[...ACTIONS, ...(ofMembers ? OF_MEMBERS : [])].map(([key, label, hint]) => (
            <WhoField
              key={key}
              label={label}
              hint={hint}
              who={rule[key]}
              otherwise={key === "subscribe" ? "anyone" : key === "moderate" || key === "invite" || key === "create" ? "nobody" : "as subscribe"}
              onChange={(who) => change({ [key]: who })}
              testId={`who-${key}`}
            />
          ))}
          <p class="hint">Your back end may everything, always.</p>
        </div>
      </div>
    </section>
  );
}

/** Taken away: see `trimmed`. */
const NOTHING = undefined as unknown as Keep;

const HISTORY_HINTS = {
  none: "Messages are delivered and forgotten.",
  recent: "The newest are kept in memory, so that a client that was away for a moment catches up.",
  durable: "What was acknowledged is on disk. There are read markers and unread counts.",
};

function inWords(rule: Rule): string {
  return [
    HISTORY[rule.history ?? "none"],
    rule.presence && "presence",
    rule.notify && "notifications",
    rule.search && "search",
    same(rule.subscribe, rule.publish) ? `for ${whoWords(rule.subscribe)}` : `read by ${whoWords(rule.subscribe)}, written by ${whoWords(rule.publish)}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** Without what was taken away. */
function trimmed<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}

function changedSince(draft: Draft, rule: Rule): boolean {
  return !draft.base.value.settings.rules.some((one) => same(one, rule));
}

/** Rules have no id: the pattern is what tells them apart, and its place among those that are the same. */
function keyOf(rules: readonly Rule[], rule: Rule, index: number): string {
  return `${rule.channels} ${rules.slice(0, index).filter(({ channels }) => channels === rule.channels).length}`;
}

/** What the server says of a channel by the rules as they are in the draft. */
function useVerdict(draft: Draft, asked: Asked) {
  const [{ channel, user }, settle] = useState<Asked>({ channel: "", user: "" });
  useEffect(() => {
    const timer = setTimeout(() => settle({ channel: asked.channel.trim(), user: asked.user.trim() }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [asked.channel, asked.user]);
  const all = draft.mine.value.rules;
  // A rule that has no name yet would be refused, and covers nothing.
  const rules = all.filter(({ channels }) => channels !== "");
  const load = useLoad(async (signal) => {
    if (channel === "") return undefined;
    const verdict = await api.testRule(draft.app, { channel, ...(user && { user }), rules }, signal);
    return verdict.rule ? { ...verdict, rule: { ...verdict.rule, index: all.indexOf(rules[verdict.rule.index]!) } } : verdict;
  }, [draft.app, channel, user, all]);
  return asked.channel.trim() === "" ? undefined : load;
}
