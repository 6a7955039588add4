import { useEffect, useRef, useState } from "preact/hooks";
import { Badge } from "../../ui/badge.tsx";
import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { TextField } from "../../ui/field.tsx";
import { Icon } from "../../ui/icon.tsx";
import { Menu } from "../../ui/menu.tsx";
import { rove } from "../../ui/roving.ts";
import { Skeleton } from "../../ui/skeleton.tsx";
import { Tabs } from "../../ui/tabs.tsx";
import { Table } from "../../ui/table.tsx";
import { say } from "../../ui/toast.tsx";
import * as api from "../api.ts";
import type { ChannelMore, Message } from "../contract.ts";
import { Loaded, useLoad, usePolled } from "../load.tsx";
import { go, href } from "../place.ts";
import type { AppViewProps } from "../shown.tsx";
import { Failure } from "../session.ts";
import { Tail, type TailLine } from "../tail.ts";
import { Ago } from "../time.tsx";
import { View } from "../view.tsx";
import { clock, count, figure, moment } from "../words.ts";

/** How often the list of channels is looked at. */
const LIST_MS = 2_000;

/** Who is not further than this from the end follows what comes, in px. */
const NEAR_END = 80;

/** Channels that somebody follows now, and what is said in one of them. */
export function Channels({ app, at }: AppViewProps) {
  const [prefix, type] = useState("");
  const list = usePolled((signal) => api.channels(app, prefix.trim(), undefined, signal), [app, prefix.trim()], LIST_MS);
  return (
    <View title="Channels" app={app} whole lead="Those that somebody follows; any other by its name.">
      <div class={at === undefined ? "panes" : "panes chosen"}>
        <section class="card pane pane-list" aria-label="Channels">
          <form
            class="pane-search"
            onSubmit={(event) => {
              event.preventDefault();
              if (prefix.trim() !== "") go("apps", app, "channels", prefix.trim());
            }}
          >
            <TextField label="Find or open" placeholder="chat:" value={prefix} onChange={type} mono spellcheck={false} autocapitalize="none" maxLength={128} testId="channel-search" />
          </form>
          <div class="pane-scroll">
            <Loaded load={list} what="Channels">
              {({ channels, after }) =>
                channels.length === 0 ? (
                  <Blank
                    title={prefix ? "Nobody is there" : "All quiet"}
                    drawing={<Drawing name="channels" />}
                    actions={
                      prefix.trim() ? (
                        <Button onClick={() => go("apps", app, "channels", prefix.trim())}>
                          Open <code>{prefix.trim()}</code>
                        </Button>
                      ) : (
                        <a class="button outline" href={href("apps", app, "connect")}>
                          Connect a client
                        </a>
                      )
                    }
                  >
                    {prefix ? "No channel that begins so is followed now." : "No channel is followed at the moment."}
                  </Blank>
                ) : (
                  <ul class="choose" onKeyDown={(event) => rove(event, "a")}>
                    {channels.map(({ channel, subscribers }, index) => (
                      <li key={channel}>
                        <a
                          href={href("apps", app, "channels", channel)}
                          aria-current={channel === at || undefined}
                          tabIndex={channel === at || (index === 0 && !channels.some((one) => one.channel === at)) ? 0 : -1}
                          data-testid="channel"
                        >
                          <code>{channel}</code>
                          <span class="soft figures" title={count(subscribers, "subscriber")}>
                            {figure(subscribers)}
                          </span>
                        </a>
                      </li>
                    ))}
                    {after !== undefined && <li class="soft more-hint">and more: type how they begin</li>}
                  </ul>
                )
              }
            </Loaded>
          </div>
        </section>
        {at === undefined ? (
          <section class="card pane hollow">
            <Blank title="Choose a channel" drawing={<Drawing name="silence" />}>
              What is said there is shown as it happens.
            </Blank>
          </section>
        ) : (
          <One key={at} app={app} channel={at} />
        )}
      </div>
    </View>
  );
}

function One({ app, channel }: { app: string; channel: string }) {
  const more = usePolled((signal) => api.channel(app, channel, signal), [app, channel]);
  return (
    <section class="card pane pane-detail" aria-label={`Channel ${channel}`}>
      <header class="card-head">
        <a class="button quiet small square back" href={href("apps", app, "channels")} aria-label="Back to the channels">
          <Icon name="chevronLeft" />
        </a>
        <div class="pane-title">
          <h2>
            <code>{channel}</code>
          </h2>
          {more.data && <Facts app={app} more={more.data} />}
        </div>
      </header>
      <Loaded load={more} what="The channel">
        {(more) =>
          more.rule === null ? (
            <Blank
              title="No rule covers it"
              drawing={<Drawing name="rules" />}
              actions={
                <a class="button primary" href={href("apps", app, "rules")}>
                  To the rules
                </a>
              }
            >
              A channel that no rule matches cannot be used.
            </Blank>
          ) : (
            <div class="tabbed">
              <Tabs
                label="Of this channel"
                tabs={[
                  { key: "live", label: "Live", content: <LiveTail app={app} channel={channel} /> },
                  ...(more.history !== "none" ? [{ key: "history", label: "History", content: <History app={app} channel={channel} /> }] : []),
                  ...(more.presence ? [{ key: "presence", label: "Who is there", content: <Presence app={app} channel={channel} /> }] : []),
                  ...(more.members ? [{ key: "members", label: "Members", content: <Members app={app} channel={channel} /> }] : []),
                ]}
              />
            </div>
          )
        }
      </Loaded>
    </section>
  );
}

function Facts({ app, more }: { app: string; more: ChannelMore }) {
  return (
    <p class="line-of-badges">
      {more.rule && (
        <a class="badge accent" href={href("apps", app, "rules", String(more.rule.index))}>
          <Icon name="rule" /> {more.rule.channels}
        </a>
      )}
      <span class="badge">{more.history === "none" || more.history === null ? "no history" : more.history}</span>
      <span class="badge figures">{count(more.subscribers, "subscriber")}</span>
      {more.head !== undefined && more.head > 0 && <span class="badge figures">seq {figure(more.head)}</span>}
    </p>
  );
}

/** What happens from now on. */
function LiveTail({ app, channel }: { app: string; channel: string }) {
  const [tail, setTail] = useState<Tail>();
  useEffect(() => {
    const opened = new Tail(app, channel);
    setTail(opened);
    return () => opened.close();
  }, [app, channel]);
  const view = useRef<HTMLDivElement>(null);
  // Whoever has scrolled up reads: what comes meanwhile does not move it.
  const follows = useRef(true);
  const lines = tail?.lines.value ?? [];

  useEffect(() => {
    if (view.current && follows.current) view.current.scrollTop = view.current.scrollHeight;
  }, [lines]);

  if (!tail) return <Skeleton what="Messages" />;
  return (
    <div class="stream">
      <div class="stream-bar">
        <TailState tail={tail} />
        <Button small kind="quiet" icon={tail.paused.value ? "play" : "pause"} onClick={() => tail.pause(!tail.paused.value)} aria-pressed={tail.paused.value}>
          {tail.paused.value ? `Go on${tail.held.value > 0 ? ` · ${tail.held.value} wait` : ""}` : "Pause"}
        </Button>
        <Button small kind="quiet" disabled={lines.length === 0} onClick={() => tail.clear()}>
          Clear
        </Button>
      </div>
      <div
        class="stream-view"
        tabIndex={0}
        role="log"
        aria-label="What happens now"
        aria-live="off"
        ref={view}
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => (follows.current = scrollHeight - scrollTop - clientHeight < NEAR_END)}
      >
        {lines.length === 0 ? (
          <Blank title={tail.listening.value ? "Listening" : "Nothing yet"} drawing={<Drawing name="silence" />}>
            What is said here from now on appears at once. Say something yourself below.
          </Blank>
        ) : (
          <ol class="messages">
            {lines.map((line) => (
              <TailRow key={line.key} line={line} />
            ))}
          </ol>
        )}
      </div>
      <Composer app={app} channel={channel} />
    </div>
  );
}

function TailState({ tail }: { tail: Tail }) {
  const state = tail.state.value;
  if (tail.refused.value) {
    return (
      <span class="badge bad" role="status">
        <Icon name="alert" /> {tail.refused.value}
      </span>
    );
  }
  const words = tail.listening.value ? "listening" : state.status === "waiting" ? "connection lost, trying again" : "connecting";
  return (
    <span class={tail.listening.value ? "badge good" : "badge warn"} role="status" data-testid="tail-state" data-listening={tail.listening.value}>
      <Icon name={tail.listening.value ? "check" : "clock"} /> {words}
    </span>
  );
}

function TailRow({ line }: { line: TailLine }) {
  if (line.kind === "gap") return <li class="message-gap">Something may be missing here.</li>;
  return (
    <li class="message fresh" data-testid="tail-line">
      <div class="message-head">
        <strong>{line.from?.name ?? line.from?.user}</strong>
        {line.event !== undefined && line.event !== "message" && <code class="badge">{line.event}</code>}
        {line.kind !== "message" && (
          <span class="badge warn">
            {line.kind}
            {line.target !== undefined && ` of ${line.target}`}
          </span>
        )}
        <span class="soft figures" title={moment(line.at)}>
          {line.seq !== undefined && `${line.seq} · `}
          {clock(line.at)}
        </span>
      </div>
      {line.kind !== "delete" && <Data value={line.data} />}
    </li>
  );
}

/** What was said, as JSON; text as it is. */
function Data({ value }: { value: unknown }) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return <pre class="data">{text}</pre>;
}

function History({ app, channel }: { app: string; channel: string }) {
  const page = useLoad((signal) => api.history(app, channel, undefined, signal), [app, channel]);
  const [older, setOlder] = useState<readonly Message[]>([]);
  const [busy, setBusy] = useState(false);

  async function earlier(before: number): Promise<void> {
    setBusy(true);
    await api.history(app, channel, before).then(
      ({ messages }) => setOlder([...messages, ...older]),
      (error: Error) => say(error.message, "bad"),
    );
    setBusy(false);
  }

  async function remove(seq: number): Promise<void> {
    await api.deleteMessage(app, channel, seq).then(
      () => {
        say(`Message ${seq} is deleted.`);
        setOlder([]);
        page.again();
      },
      (error: Error) => say(error.message, "bad"),
    );
  }

  return (
    <Loaded load={page} what="Messages">
      {({ messages, head, first }) => {
        const all = [...older, ...messages].filter(({ target }) => target === undefined);
        const oldest = (older[0] ?? messages[0])?.seq ?? 0;
        return (
          <div class="stream">
            <div class="stream-bar">
              <span class="soft figures">{head === 0 ? "nothing yet" : `${figure(first)} to ${figure(head)} are kept`}</span>
              <Button
                small
                kind="quiet"
                icon="refresh"
                onClick={() => {
                  setOlder([]);
                  page.again();
                }}
              >
                Refresh
              </Button>
            </div>
            <div class="stream-view" tabIndex={0} role="group" aria-label="History">
              {all.length === 0 ? (
                <Blank title="Nothing was said yet" drawing={<Drawing name="silence" />}>
                  What is published here is kept, as the channel's rule says.
                </Blank>
              ) : (
                <>
                  {oldest > Math.max(first, 1) && (
                    <div class="card-foot">
                      <Button small busy={busy} onClick={() => void earlier(oldest)}>
                        Earlier ones
                      </Button>
                    </div>
                  )}
                  <ol class="messages">
                    {all.map((message) => (
                      <HistoryRow key={message.seq} message={message} remove={remove} />
                    ))}
                  </ol>
                </>
              )}
            </div>
            <Composer app={app} channel={channel} published={page.again} />
          </div>
        );
      }}
    </Loaded>
  );
}

function HistoryRow({ message, remove }: { message: Message; remove(seq: number): Promise<void> }) {
  const { seq, from, event, data, at, edited, deleted } = message;
  return (
    <li class={deleted ? "message gone" : "message"} data-testid="message">
      <div class="message-head">
        <strong>{from.name ?? from.user}</strong>
        {event !== "message" && <code class="badge">{event}</code>}
        {edited && <span class="badge">edited</span>}
        <span class="soft figures" title={moment(at)}>
          {seq} · {clock(at)}
        </span>
        {!deleted && seq !== undefined && (
          <Menu
            label={`Message ${seq}`}
            towardsStart
            items={[
              { key: "copy", words: "Copy as JSON", icon: "copy", act: () => void navigator.clipboard?.writeText(JSON.stringify(message, null, 2)) },
              { key: "delete", words: "Delete", icon: "trash", danger: true, apart: true, act: () => void remove(seq) },
            ]}
          />
        )}
      </div>
      {deleted ? <p class="soft">deleted</p> : <Data value={data} />}
    </li>
  );
}

/** Publishes as the app's server. */
function Composer({ app, channel, published }: { app: string; channel: string; published?: () => void }) {
  const [event, setEvent] = useState("");
  const [data, setData] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  // The same id for as long as it is not known to be there: a second press is no second message.
  const id = useRef(newId());

  async function send(submit: Event): Promise<void> {
    submit.preventDefault();
    if (data.trim() === "") return;
    setBusy(true);
    setFailure(undefined);
    try {
      await api.publish(app, channel, { data: meant(data), id: id.current, ...(event.trim() && { event: event.trim() }) });
      setData("");
      id.current = newId();
      published?.();
    } catch (error) {
      setFailure((error as Failure).message);
    }
    setBusy(false);
  }

  return (
    <form class="composer" onSubmit={send} noValidate>
      <div class="composer-row">
        <input class="field mono event" aria-label="Event" placeholder="message" value={event} maxLength={64} spellcheck={false} autocapitalize="none" onInput={(input) => setEvent(input.currentTarget.value)} />
        <input
          class="field mono"
          aria-label="Data, JSON or text"
          placeholder={'{"text": "Hello"}'}
          value={data}
          spellcheck={false}
          onInput={(input) => setData(input.currentTarget.value)}
          data-testid="publish-data"
        />
        <Button kind="primary" type="submit" icon="send" busy={busy} disabled={data.trim() === ""} testId="publish">
          Publish
        </Button>
      </div>
      {failure ? (
        <p class="hint bad" role="alert">
          <Icon name="alert" /> {failure}
        </p>
      ) : (
        <p class="hint">As the app's server, to everybody who follows it. What is no JSON goes as text.</p>
      )}
    </form>
  );
}

function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function meant(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function Presence({ app, channel }: { app: string; channel: string }) {
  const load = usePolled((signal) => api.presence(app, channel, signal), [app, channel], 2_000);
  return (
    <Loaded load={load} what="Users">
      {({ count: all, users, more }) =>
        users.length === 0 ? (
          <Blank title="Nobody is there" drawing={<Drawing name="people" />}>
            Who subscribes is counted and listed here.
          </Blank>
        ) : (
          <div class="pane-scroll">
            <p class="pane-note soft figures">
              {count(all, "user")} {more && `, ${users.length} of them by name`}
            </p>
            <ul class="choose">
              {users.map(({ user, name, state }) => (
                <li key={user}>
                  <a href={href("apps", app, "users", user)}>
                    <span>
                      {name ?? user} {name && <small class="soft">{user}</small>}
                    </span>
                    {state && <span class={state === "online" ? "badge good" : "badge"}>{state}</span>}
                  </a>
                </li>
              ))}
            </ul>
          </div>
        )
      }
    </Loaded>
  );
}

function Members({ app, channel }: { app: string; channel: string }) {
  const load = useLoad((signal) => api.members(app, channel, signal), [app, channel]);
  const [user, type] = useState("");

  async function change(what: Parameters<typeof api.changeMembers>[2]): Promise<void> {
    await api.changeMembers(app, channel, what).then(
      () => {
        type("");
        load.again();
      },
      (error: Error) => say(error.message, "bad"),
    );
  }

  return (
    <Loaded load={load} what="Members">
      {({ members }) => (
        <div class="pane-scroll">
          <form
            class="add-line"
            onSubmit={(event) => {
              event.preventDefault();
              if (user.trim()) void change({ add: [user.trim()] });
            }}
          >
            <input class="field" aria-label="User to add" placeholder="User" value={user} maxLength={128} spellcheck={false} autocapitalize="none" onInput={(input) => type(input.currentTarget.value)} />
            <Button type="submit" icon="plus" disabled={!user.trim()}>
              Add
            </Button>
          </form>
          {members.length === 0 ? (
            <Blank title="No members yet" drawing={<Drawing name="people" />}>
              Only members may use this channel.
            </Blank>
          ) : (
            <Table
              label="Members"
              items={members}
              keyOf={({ user }) => user}
              columns={[
                { name: "User", cell: ({ user }) => <a href={href("apps", app, "users", user)}>{user}</a> },
                { name: "Role", cell: ({ role }) => (role ? <Badge kind="accent">{role}</Badge> : <span class="soft">member</span>) },
                { name: "Since", cell: ({ since }) => <Ago at={since} /> },
                { name: "", kind: "actions", cell: ({ user }) => <Button kind="quiet" small icon="trash" aria-label={`Remove ${user}`} onClick={() => void change({ remove: [user] })} /> },
              ]}
            />
          )}
        </div>
      )}
    </Loaded>
  );
}
