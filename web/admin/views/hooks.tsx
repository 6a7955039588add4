import { useState } from "preact/hooks";
import { Badge } from "../../ui/badge.tsx";
import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { Choice, TextField } from "../../ui/field.tsx";
import { FormDialog } from "../../ui/form_dialog.tsx";
import { Icon } from "../../ui/icon.tsx";
import { say } from "../../ui/toast.tsx";
import * as api from "../api.ts";
import type { Hook, HookState } from "../contract.ts";
import type { Draft } from "../draft.ts";
import { usePolled } from "../load.tsx";
import type { AppViewProps } from "../shown.tsx";
import { Ago } from "../time.tsx";
import { View } from "../view.tsx";
import { WithDraft } from "../with_draft.tsx";
import { count, figure } from "../words.ts";
import { lines } from "./new_app.tsx";

const EVENTS = ["connected", "disconnected", "occupied", "vacated", "message", "online", "offline"];
const ASKS = ["connect", "subscribe", "publish", "call"];
const STATE_MS = 2_000;

/** The app's own back ends: what they are told and asked, and how they are. */
export function Hooks({ app }: AppViewProps) {
  return (
    <View title="Hooks" app={app} lead="Your back ends: what they are told, what they are asked, and how they take it.">
      <WithDraft app={app} what="Hooks">
        {(draft) => <List draft={draft} />}
      </WithDraft>
    </View>
  );
}

function List({ draft }: { draft: Draft }) {
  const [editing, edit] = useState<number | "new">();
  const states = usePolled((signal) => api.hooks(draft.app, signal), [draft.app, draft.base.value.revision], STATE_MS);
  const hooks = draft.mine.value.hooks ?? [];
  const put = (next: readonly Hook[]) => draft.change({ hooks: next });
  return (
    <>
      {hooks.length === 0 ? (
        <div class="card">
          <Blank
            title="No hooks yet"
            drawing={<Drawing name="hooks" />}
            actions={
              <Button kind="primary" icon="plus" onClick={() => edit("new")} testId="hook-new">
                Add a hook
              </Button>
            }
          >
            A hook is a URL of yours that is told of messages and of who comes and goes, and may refuse or amend.
          </Blank>
        </div>
      ) : (
        <div class="hook-list">
          {hooks.map((hook, index) => (
            <One
              key={hook.name}
              app={draft.app}
              hook={hook}
              state={states.data?.find(({ name }) => name === hook.name)}
              edit={() => edit(index)}
              remove={() => put(hooks.filter((_, at) => at !== index))}
            />
          ))}
          <Button icon="plus" onClick={() => edit("new")} testId="hook-new">
            Add a hook
          </Button>
        </div>
      )}
      {editing !== undefined && (
        <Edit
          hook={editing === "new" ? undefined : hooks[editing]}
          taken={hooks.filter((_, at) => at !== editing).map(({ name }) => name)}
          close={() => edit(undefined)}
          done={(hook) => {
            put(editing === "new" ? [...hooks, hook] : hooks.map((one, at) => (at === editing ? hook : one)));
            edit(undefined);
          }}
        />
      )}
    </>
  );
}

function One({ app, hook, state, edit, remove }: { app: string; hook: Hook; state: HookState | undefined; edit(): void; remove(): void }) {
  const [trying, setTrying] = useState(false);
  async function test(): Promise<void> {
    setTrying(true);
    await api.testHook(app, hook.name).then(
      ({ ok, status, ms, error }) => say(ok ? `${hook.name} has taken it: status ${status}, ${figure(ms)} ms` : `${hook.name} has not taken it: ${error ?? `status ${status}`}`, ok ? "good" : "bad"),
      (error: Error) => say(error.message, "bad"),
    );
    setTrying(false);
  }
  return (
    <section class="card hook" aria-label={`Hook ${hook.name}`} data-testid="hook">
      <header class="card-head">
        <div class="pane-title">
          <h2>
            {hook.name} <Breaker state={state} />
          </h2>
          <p class="soft mono cut-line" title={hook.url}>
            {hook.url}
          </p>
        </div>
        <Button small busy={trying} disabled={!state} onClick={() => void test()} title={state ? undefined : "Save it first"}>
          Send a test
        </Button>
        <Button small kind="quiet" icon="edit" aria-label={`Change ${hook.name}`} onClick={edit} />
        <Button small kind="quiet" icon="trash" aria-label={`Remove ${hook.name}`} onClick={remove} />
      </header>
      <dl class="facts pad">
        <div>
          <dt>Is told</dt>
          <dd>{hook.events?.length ? hook.events.join(", ") : "nothing"}</dd>
        </div>
        <div>
          <dt>Is asked</dt>
          <dd>{hook.asks?.length ? `${hook.asks.join(", ")}; without an answer: ${hook.on_failure ?? "refuse"}` : "nothing"}</dd>
        </div>
        <div>
          <dt>Channels</dt>
          <dd>{hook.channels?.length ? hook.channels.join(", ") : "all of them"}</dd>
        </div>
        <div>
          <dt>Waiting</dt>
          <dd class="figures">
            {state ? count(state.waiting, "event") : "–"}
            {state?.oldest ? (
              <span class="soft">
                · the oldest <Ago at={state.oldest} />
              </span>
            ) : null}
          </dd>
        </div>
        {state?.last_error && (
          <div>
            <dt>Last error</dt>
            <dd>
              {state.last_error.message} <span class="soft">· <Ago at={state.last_error.at} /></span>
            </dd>
          </div>
        )}
      </dl>
      {state && state.given_up.length > 0 && (
        <details class="given-up">
          <summary>
            <Icon name="alert" /> {count(state.given_up.length, "event")} given up
          </summary>
          <ul class="rows">
            {state.given_up.map((event) => (
              <li key={event.id}>
                <span class="two-lines">
                  <span>{event.what}</span>
                  <small class="soft">
                    {event.why} · {count(event.attempts, "attempt")} · <Ago at={event.at} />
                  </small>
                </span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}

function Breaker({ state }: { state: HookState | undefined }) {
  if (!state) return <Badge kind="warn">not saved yet</Badge>;
  if (state.breaker === "closed") return <Badge kind="good">well</Badge>;
  return (
    <Badge kind="bad" icon="alert" title="It has failed five times in a row, and is left alone for a while">
      {state.breaker === "open" ? "left alone" : "tried again"}
    </Badge>
  );
}

function Edit({ hook, taken, close, done }: { hook: Hook | undefined; taken: readonly string[]; close(): void; done(hook: Hook): void }) {
  const [name, setName] = useState(hook?.name ?? (taken.includes("main") ? "" : "main"));
  const [url, setUrl] = useState(hook?.url ?? "");
  const [secret, setSecret] = useState("");
  const [events, setEvents] = useState<readonly string[]>(hook?.events ?? ["message"]);
  const [asks, setAsks] = useState<readonly string[]>(hook?.asks ?? []);
  const [channels, setChannels] = useState((hook?.channels ?? []).join("\n"));
  const [timeout, setPatience] = useState(hook?.timeout ?? "2s");
  const [onFailure, setOnFailure] = useState(hook?.on_failure ?? "refuse");
  const keeps = hook !== undefined && hook.url === url.trim() && hook.name === name.trim();
  const ready = name.trim() !== "" && !taken.includes(name.trim()) && url.trim() !== "" && (keeps || secret !== "");

  function submit(): void {
    const { on_failure: _, channels: __, ...rest } = hook ?? ({} as Partial<Hook>);
    const patterns = lines(channels);
    done({
      ...rest,
      name: name.trim(),
      url: url.trim(),
      ...(secret && { secret }),
      events,
      asks,
      timeout,
      concurrency: hook?.concurrency ?? 8,
      ...(asks.length > 0 && { on_failure: onFailure }),
      ...(patterns.length > 0 && { channels: patterns }),
    });
  }

  return (
    <FormDialog title={hook ? `Hook ${hook.name}` : "New hook"} wide close={close} yes={hook ? "Take it over" : "Add it"} act={submit} ready={ready}>
      <div class="form-row">
        <TextField label="Name" value={name} onChange={setName} maxLength={64} spellcheck={false} autocapitalize="none" error={taken.includes(name.trim()) ? "There is one of this name." : undefined} />
        <TextField label="Answers within" hint="A question's time." value={timeout} onChange={setPatience} />
      </div>
      <TextField label="URL" type="url" mono placeholder="https://www.example.com/xpush" value={url} onChange={setUrl} spellcheck={false} autofocus />
      <TextField
        label="Secret"
        type="password"
        autocomplete="off"
        hint={keeps ? "Left empty, it keeps the one it has." : "At least 24 bytes, which requests are signed with: openssl rand -base64 32"}
        value={secret}
        onChange={setSecret}
        mono
      />
      <Chips legend="It is told of" all={EVENTS} on={events} put={setEvents} />
      <Chips legend="It is asked before" all={ASKS} on={asks} put={setAsks} />
      {asks.length > 0 && (
        <Choice
          label="Without an answer"
          value={onFailure}
          options={[
            ["refuse", "Refuse"],
            ["allow", "Allow"],
          ]}
          onChange={setOnFailure}
        />
      )}
      <TextField label="Channels" rows={2} mono hint="Patterns, one a line. Empty: all but the server's own." value={channels} onChange={setChannels} spellcheck={false} />
    </FormDialog>
  );
}

function Chips({ legend, all, on, put }: { legend: string; all: readonly string[]; on: readonly string[]; put(on: readonly string[]): void }) {
  return (
    <fieldset class="form-field">
      <legend>{legend}</legend>
      <div class="chips">
        {all.map((one) => (
          <button key={one} type="button" class="chip" aria-pressed={on.includes(one)} onClick={() => put(on.includes(one) ? on.filter((other) => other !== one) : [...on, one])}>
            {one}
          </button>
        ))}
      </div>
    </fieldset>
  );
}
