import { useState } from "preact/hooks";
import { Button } from "../../ui/button.tsx";
import { Icon } from "../../ui/icon.tsx";
import { Snippet } from "../../ui/snippet.tsx";
import { Tabs } from "../../ui/tabs.tsx";
import * as api from "../api.ts";
import type { App, Language, Snippets } from "../contract.ts";
import { Loaded, useLoad } from "../load.tsx";
import { href } from "../place.ts";
import type { AppViewProps } from "../shown.tsx";
import { SourceBadge } from "../source.tsx";
import { View } from "../view.tsx";
import { say } from "../../ui/toast.tsx";

/** The first client of an app, and its first back end: to copy. */
export function Connect({ app }: AppViewProps) {
  const load = useLoad((signal) => api.app(app, signal), [app]);
  const snippets = useLoad((signal) => api.snippets(app, location.origin, signal), [app]);
  return (
    <View
      title={app}
      app="Connect"
      lead={load.data && <AppLine state={load.data} />}
      actions={
        <a class="button outline" href={href("apps", app, "channels")}>
          <Icon name="channel" /> Channels
        </a>
      }
    >
      <Loaded load={load} what="The app">
        {(state) => (
          <Loaded load={snippets} what="What there is to copy">
            {(snippets) => <Both state={state} snippets={snippets} />}
          </Loaded>
        )}
      </Loaded>
    </View>
  );
}

function AppLine({ state }: { state: App }) {
  return (
    <span class="line-of-badges">
      <SourceBadge app={state} />
      <span class="badge">{state.settings.guests ? "guests welcome" : "by token only"}</span>
      <span class="badge">{state.settings.rules.length} rules</span>
      {state.revision > 0 && <span class="badge figures">revision {state.revision}</span>}
    </span>
  );
}

/** Where an API key belongs in what is copied. */
const KEY = "YOUR-API-KEY";

function Both({ state, snippets: { channel, clients, back_ends } }: { state: App; snippets: Snippets }) {
  const [key, setKey] = useState<string>();
  const [busy, setBusy] = useState(false);
  const { app, settings } = state;
  const withKey = back_ends.map((language) => ({ ...language, files: language.files.map(({ name, text }) => ({ name, text: key ? text.replaceAll(KEY, key) : text })) }));

  async function makeKey(): Promise<void> {
    setBusy(true);
    await api.createApiKey(app, { name: "first back end", scopes: ["publish", "read", "users"] }).then(
      ({ secret }) => setKey(secret),
      (error: Error) => say(error.message, "bad"),
    );
    setBusy(false);
  }

  return (
    <div class="both">
      <section class="card pad" aria-labelledby="client-title">
        <h2 id="client-title">Your client</h2>
        <p class="soft">
          Any Socket.IO client, unchanged, or a plain WebSocket. It follows <code>{channel}</code>:{" "}
          <a href={href("apps", app, "channels", channel)}>watch it live</a>.
        </p>
        {!settings.guests && (
          <p class="note warn">
            <Icon name="alert" /> This app takes nobody without a token: your back end signs one for each user.
          </p>
        )}
        <Languages label="Client" all={clients} />
      </section>
      <section class="card pad" aria-labelledby="server-title">
        <h2 id="server-title">Your back end</h2>
        <p class="soft">It publishes, and asks who is where, with an API key. Never put one into a browser.</p>
        {key ? (
          <p class="note good">
            <Icon name="check" /> The key is in the code below. It is shown this once.
          </p>
        ) : (
          <div class="offer">
            <p>
              A key belongs where <code>{KEY}</code> stands.
            </p>
            <Button icon="key" busy={busy} onClick={() => void makeKey()} testId="connect-key">
              Make a key for it
            </Button>
          </div>
        )}
        <Languages label="Back end" all={withKey} />
      </section>
    </div>
  );
}

function Languages({ label, all }: { label: string; all: readonly Language[] }) {
  return (
    <Tabs
      label={label}
      tabs={all.map(({ key, title, files }) => ({
        key,
        label: title,
        content: (
          <div class="snippet-list">
            {files.map(({ name, text }) => (
              <Snippet key={name} name={name} text={text} what={name} testId="snippet" copyTestId="snippet-copy" />
            ))}
          </div>
        ),
      }))}
    />
  );
}
