import { Fragment } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Avatar, Avatars } from "../ui/avatar.tsx";
import { Blank } from "../ui/blank.tsx";
import { Icon } from "../ui/icon.tsx";
import { AttachButton, DropTarget, FileView, Uploads } from "./attachment_view.tsx";
import type { Client } from "@xpush/client";
import type { Connection } from "./connection.ts";
import type { Line, Lobby } from "./lobby.ts";

/** Lines of one person within this time stand together. */
const GROUP_MS = 3 * 60_000;

/** Closer to the end than this, the timeline follows what comes. */
const NEAR_END_PX = 48;

const NAME_LENGTH = 64;
const TEXT_LENGTH = 2_000;

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });

export function LobbyCard({ connection, lobby }: { connection: Connection; lobby: Lobby }) {
  const told = lobby.presence.value;
  const { status } = connection.shown.value;
  const presence = (status === "connected" || status === "moving") && !told?.unknown ? told : undefined;
  const me = connection.welcome.value?.user;
  const others = (presence?.users ?? []).filter(({ user }) => user !== me);
  const people = [
    ...(me === undefined ? [] : [{ user: me, name: connection.name.value }]),
    ...others.map(({ user, name }) => ({ user, name })),
  ];
  return (
    <section class="card lobby" aria-labelledby="lobby-title">
      <header class="lobby-head">
        <div>
          <h2 id="lobby-title">Lobby</h2>
          <p class="figures" data-testid="online-count">
            Online : {presence?.count ?? "–"}
          </p>
        </div>
        {presence && <Avatars people={people} count={presence.count} />}
      </header>
      <DropTarget attachments={lobby.attachments}>
        <Timeline lobby={lobby} client={connection.client} />
        <Composer connection={connection} lobby={lobby} />
      </DropTarget>
    </section>
  );
}

function Timeline({ lobby, client }: { lobby: Lobby; client: Client }) {
  const lines = lobby.lines.value;
  const history = lobby.history.value;
  const view = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const seen = useRef(0);
  const [unread, setUnread] = useState(0);

  useLayoutEffect(() => {
    const grown = Math.max(0, lines.length - seen.current);
    seen.current = lines.length;
    if (following.current) lobby.seen();
    if (following.current || (grown > 0 && lines.at(-1)?.status === "pending")) toEnd();
    else setUnread((count) => count + grown);
  }, [lines]);

  // What is on its way takes room from below.
  const uploads = lobby.attachments.list.value.length;
  useLayoutEffect(() => {
    if (following.current) toEnd();
  }, [uploads]);

  function toEnd(): void {
    const element = view.current;
    if (element) element.scrollTop = element.scrollHeight;
    following.current = true;
    setUnread(0);
  }

  function scrolled(): void {
    const element = view.current;
    if (!element) return;
    following.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END_PX;
    if (!following.current) return;
    setUnread(0);
    lobby.seen();
  }

  return (
    <div class="timeline">
      <div
        class="timeline-view"
        ref={view}
        role="log"
        aria-label="Messages in the lobby"
        // The history that is loaded first is there to be read, not to be read out.
        aria-live={history === "loaded" ? "polite" : "off"}
        aria-relevant="additions"
        aria-busy={history === "loading"}
        tabIndex={0}
        onScroll={scrolled}
      >
        {history === "failed" && <HistoryFailed lobby={lobby} />}
        {lines.length > 0 && (
          <ol class="lines">
            {lines.map((line, index) => (
              <Fragment key={line.key}>
                {line.gap && <li class="gap">Messages may be missing here</li>}
                <Row line={line} above={lines[index - 1]} below={lines[index + 1]} lobby={lobby} client={client} />
              </Fragment>
            ))}
          </ol>
        )}
        {lines.length === 0 && history === "loading" && <Loading />}
        {lines.length === 0 && history === "loaded" && <Empty lobby={lobby} />}
        {history === "refused" && <Refused />}
      </div>
      {unread > 0 && (
        <button type="button" class="button outline small to-end figures" onClick={toEnd}>
          <Icon name="arrowDown" />
          {unread} new
        </button>
      )}
    </div>
  );
}

interface RowProps {
  line: Line;
  above: Line | undefined;
  below: Line | undefined;
  lobby: Lobby;
  client: Client;
}

function Row({ line, above, below, lobby, client }: RowProps) {
  const { own } = line;
  const opens = !together(above, line);
  const closes = !together(line, below);
  const name = line.from.name ?? line.from.user;
  return (
    <li
      class={`line ${own ? "own" : "other"} ${line.status} ${opens ? "opens" : ""}`}
      data-testid="chat-message"
      data-status={line.status}
      data-own={own}
      data-read={line.read}
    >
      {!own && (closes ? <Avatar user={line.from.user} name={line.from.name} /> : <span class="avatar-space" />)}
      <div class="line-body">
        <p class={opens && !own ? "line-name" : "unseen"}>{own ? "You" : name}</p>
        <div class="line-bubble">
          {own && line.status === "sent" && !line.deleted && line.seq !== undefined && <Changes line={line} lobby={lobby} />}
          {line.deleted ? (
            <p class="line-text gone">Message deleted</p>
          ) : line.file && !line.text ? (
            <FileView client={client} file={line.file} />
          ) : (
            <p class="line-text" dir="auto">
              {line.text}
            </p>
          )}
        </div>
        {line.status === "failed" && (
          <p class="line-error" role="alert">
            <Icon name="alert" /> Not sent: {line.error}
            <button type="button" class="button quiet small" onClick={() => lobby.retry(line)}>
              Try again
            </button>
            <button type="button" class="button quiet small" onClick={() => lobby.dismiss(line)}>
              Discard
            </button>
          </p>
        )}
        {(closes || line.edited || line.status === "pending") && line.status !== "failed" && <Meta line={line} />}
      </div>
    </li>
  );
}

function Meta({ line }: { line: Line }) {
  const [icon, words] =
    line.status === "pending" ? (["clock", "on its way"] as const) : line.read ? (["checks", "read"] as const) : (["check", "sent"] as const);
  return (
    <p class="line-meta figures">
      {line.edited && !line.deleted && <span>edited</span>}
      <time dateTime={new Date(line.at).toISOString()}>{clock.format(line.at)}</time>
      {line.own && <Icon name={icon} />}
      {line.own && <span class="unseen">{words}</span>}
    </p>
  );
}

function Changes({ line, lobby }: { line: Line; lobby: Lobby }) {
  return (
    <div class="line-changes">
      {!line.file && (
        <button type="button" class="button quiet small" aria-label="Edit message" data-testid="chat-edit" onClick={() => (lobby.editing.value = line)}>
          <Icon name="edit" />
        </button>
      )}
      <button type="button" class="button quiet small" aria-label="Delete message" data-testid="chat-delete" onClick={() => lobby.withdraw(line)}>
        <Icon name="trash" />
      </button>
    </div>
  );
}

function together(a: Line | undefined, b: Line | undefined): boolean {
  if (!a || !b || a.from.user !== b.from.user || b.gap) return false;
  return b.at - a.at < GROUP_MS && a.status === b.status;
}

function Composer({ connection, lobby }: { connection: Connection; lobby: Lobby }) {
  const [text, setText] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const editing = lobby.editing.value;

  useEffect(() => {
    if (!editing) return;
    setText(editing.text);
    input.current?.focus();
  }, [editing]);

  function submit(event: Event): void {
    event.preventDefault();
    const trimmed = text.trim();
    if (!trimmed) return;
    if (editing) lobby.rewrite(editing, trimmed);
    else lobby.send(trimmed);
    setText("");
    input.current?.focus();
  }

  /** A picture that was copied goes as a file; text goes where it always does. */
  function paste(event: ClipboardEvent): void {
    const files = event.clipboardData?.files;
    if (!files?.length) return;
    event.preventDefault();
    lobby.attachments.add(files);
  }

  function stopEditing(): void {
    lobby.editing.value = undefined;
    setText("");
    input.current?.focus();
  }

  return (
    <footer class="composer">
      {editing ? (
        <p class="editing">
          <Icon name="edit" /> Editing your message
          <button type="button" class="button quiet small" onClick={stopEditing}>
            Cancel
          </button>
        </p>
      ) : (
        <Typing lobby={lobby} />
      )}
      <Uploads attachments={lobby.attachments} />
      <form class="composer-row" onSubmit={submit} onPaste={paste}>
        <AttachButton attachments={lobby.attachments} />
        <input
          ref={input}
          class="field"
          value={text}
          maxLength={TEXT_LENGTH}
          placeholder="Write a message"
          aria-label="Message"
          autocomplete="off"
          enterkeyhint="send"
          data-testid="chat-input"
          onInput={(event) => {
            setText(event.currentTarget.value);
            if (!editing) lobby.tellTyping();
          }}
          onKeyDown={(event) => {
            if (event.key === "Escape" && editing) stopEditing();
          }}
        />
        <button type="submit" class="button primary" disabled={!text.trim()} data-testid="chat-send">
          <Icon name="send" />
          {editing ? "Save" : "Send"}
        </button>
      </form>
      <NameField connection={connection} />
    </footer>
  );
}

function NameField({ connection }: { connection: Connection }) {
  const [draft, setDraft] = useState(connection.name.value);
  useEffect(() => setDraft(connection.name.value), [connection.name.value]);

  function take(): void {
    const name = draft.trim();
    if (name) connection.rename(name);
    setDraft(name || connection.name.value);
  }

  return (
    <label class="name">
      <span>You chat as</span>
      <input
        class="name-field"
        value={draft}
        maxLength={NAME_LENGTH}
        size={Math.max(6, draft.length)}
        autocomplete="nickname"
        spellcheck={false}
        data-testid="name-input"
        onInput={(event) => setDraft(event.currentTarget.value)}
        onBlur={take}
        onKeyDown={(event) => {
          if (event.key === "Enter") event.currentTarget.blur();
          if (event.key === "Escape") setDraft(connection.name.value);
        }}
      />
    </label>
  );
}

function Typing({ lobby }: { lobby: Lobby }) {
  const names = lobby.typing.value.map(({ name, user }) => name ?? user);
  const [first, second] = names;
  return (
    <p class="typing" aria-hidden="true">
      {first !== undefined && (
        <>
          <span class="typing-dots">
            <i />
            <i />
            <i />
          </span>
          {names.length > 2 ? "Several people are typing" : second ? `${first} and ${second} are typing` : `${first} is typing`}
        </>
      )}
    </p>
  );
}

function Loading() {
  return (
    <div class="loading">
      <span class="unseen">Loading messages</span>
      <div class="skeleton" />
      <div class="skeleton" />
      <div class="skeleton" />
    </div>
  );
}

function HistoryFailed({ lobby }: { lobby: Lobby }) {
  return (
    <Blank
      title="Earlier messages did not load"
      actions={
        <button type="button" class="button outline small" onClick={() => lobby.loadHistory()}>
          Try again
        </button>
      }
    >
      New ones still arrive here.
    </Blank>
  );
}

function Refused() {
  return (
    <Blank
      title="The server does not let us in"
      actions={
        <button type="button" class="button outline small" onClick={() => location.reload()}>
          Try again
        </button>
      }
    >
      It may take no guests at this address.
    </Blank>
  );
}

function Empty({ lobby }: { lobby: Lobby }) {
  return (
    <Blank
      title="Nobody has said anything yet"
      drawing={
        <svg class="drawing" viewBox="0 0 128 84" aria-hidden="true">
          <path d="M14 12h56a8 8 0 0 1 8 8v22a8 8 0 0 1-8 8H34L22 60V50h-8a8 8 0 0 1-8-8V20a8 8 0 0 1 8-8Z" />
          <path d="M22 26h36M22 36h22" />
          <path
            class="tint"
            d="M58 36h56a8 8 0 0 1 8 8v18a8 8 0 0 1-8 8h-4v10L98 70H58a8 8 0 0 1-8-8V44a8 8 0 0 1 8-8Z"
          />
          <path class="tint" d="M74 53v.1M86 53v.1M98 53v.1" stroke-width="4" />
        </svg>
      }
      actions={
        <button type="button" class="button outline small" onClick={() => lobby.send("Hello")}>
          Say hello
        </button>
      }
    >
      Be the first, or open this page in a second window and talk to yourself.
    </Blank>
  );
}
