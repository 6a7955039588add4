import { useState } from "preact/hooks";
import { Button } from "../../ui/button.tsx";
import { FormDialog } from "../../ui/form_dialog.tsx";
import { Choice, SwitchField, TextField } from "../../ui/field.tsx";
import { say } from "../../ui/toast.tsx";
import * as api from "../api.ts";
import { apps } from "../apps.ts";
import { ask } from "../confirm.tsx";
import type { Limits, Settings, Version } from "../contract.ts";
import { drafts, refresh, type Draft } from "../draft.ts";
import { Loaded } from "../load.tsx";
import { same } from "../merge.ts";
import { More } from "../more.tsx";
import { usePages } from "../pages.ts";
import { go } from "../place.ts";
import type { AppViewProps } from "../shown.tsx";
import { SourceBadge } from "../source.tsx";
import { Ago } from "../time.tsx";
import { Section, View } from "../view.tsx";
import { WithDraft } from "../with_draft.tsx";
import { ACCOUNTS, lines } from "./new_app.tsx";

/** Who may come, from where, within which limits; and everything else as JSON. */
export function SettingsView({ app }: AppViewProps) {
  return (
    <View title="Settings" app={app} lead="Who may come, from where, and how much. What is saved holds within two seconds, without a restart.">
      <WithDraft app={app} what="Settings">
        {(draft) => <All draft={draft} />}
      </WithDraft>
    </View>
  );
}

function All({ draft }: { draft: Draft }) {
  const settings = draft.mine.value;
  return (
    <>
      <Section title="Who may come">
        <div class="card form">
          <SwitchField label="Guests" hint="Whoever connects without a token is welcome, as somebody new." on={settings.guests} onChange={(guests) => draft.change({ guests })} testId="guests" />
          <Choice
            label="Accounts that XPUSH keeps"
            hint={ACCOUNTS[settings.accounts]}
            value={settings.accounts}
            options={[
              ["off", "None"],
              ["invited", "Invited"],
              ["open", "Open"],
            ]}
            onChange={(accounts) => draft.change({ accounts })}
          />
          <TextField
            label="Key set"
            hint="Where your back end publishes the keys that it signs tokens with (JWKS), instead of keys that are kept here."
            mono
            type="url"
            placeholder="https://www.example.com/.well-known/jwks.json"
            value={settings.jwks_url ?? ""}
            onChange={(url) => draft.change({ jwks_url: url.trim() || null })}
            spellcheck={false}
          />
          <SwitchField
            label="Recovery"
            hint="Stock Socket.IO clients (4.6 and later) recover by themselves after a short break."
            on={settings.recovery}
            onChange={(recovery) => draft.change({ recovery })}
          />
        </div>
      </Section>
      <Section title="Origins" about="Pages that may connect, as scheme://host[:port]; one a line. * is every page. Programs may connect in any case.">
        <div class="card form">
          <Origins draft={draft} />
        </div>
      </Section>
      <Section title="Limits" about="This app's own, in the place of the server's. Empty: as the server has it.">
        <div class="card form">
          <LimitFields draft={draft} />
        </div>
      </Section>
      <Section title="Everything, as JSON" about="Calls, identity providers, and what has no form here, in the language of the configuration file.">
        <div class="card form">
          <AsJson draft={draft} />
        </div>
      </Section>
      <Section title="Versions" about="The last hundred. Restoring one brings back everything but keys.">
        <div class="card">
          <Versions key={draft.base.value.revision} draft={draft} />
        </div>
      </Section>
      <Section title="The end">
        <div class="card form">
          <TheEnd draft={draft} />
        </div>
      </Section>
    </>
  );
}

/** The text as it is typed; the draft has what it means. */
function Origins({ draft }: { draft: Draft }) {
  const { origins } = draft.mine.value;
  const [text, type] = useState(origins.join("\n"));
  const shown = same(lines(text), origins) ? text : origins.join("\n");
  const complaint = draft.complaints("origins")[0];
  return (
    <TextField
      label="Allowed origins"
      rows={Math.max(3, origins.length + 1)}
      mono
      placeholder="https://www.example.com"
      value={shown}
      error={complaint?.message}
      onChange={(next) => {
        type(next);
        draft.change({ origins: lines(next) });
      }}
      spellcheck={false}
      autocapitalize="none"
      testId="origins"
    />
  );
}

function LimitFields({ draft }: { draft: Draft }) {
  const limits = draft.mine.value.limits ?? {};
  const put = (key: keyof Limits, value: string) => {
    const { [key]: _, ...rest } = limits;
    draft.change({ limits: value.trim() === "" ? rest : { ...rest, [key]: /^\d+$/.test(value.trim()) ? Number(value) : value } });
  };
  const field = (key: keyof Limits, label: string, hint: string, otherwise = "as the server") => (
    <TextField label={label} hint={hint} placeholder={otherwise} value={String(limits[key] ?? "")} error={draft.complaints(`limits.${key}`)[0]?.message} onChange={(value) => put(key, value)} testId={`limit-${key}`} />
  );
  return (
    <div class="form-row">
      {field("events_per_second", "Commands a second", "Of one connection.")}
      {field("channels_per_connection", "Channels", "That one connection may follow.")}
      {field("payload", "Largest message", "As 64KB; never more than the server's.")}
      {field("files", "All files", "As 50GB: what they may have together.", "no bound")}
    </div>
  );
}

function AsJson({ draft }: { draft: Draft }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <div class="offer">
        <p>All settings of the app, to read, to change and to take along. Secrets are not shown, and stay as they are.</p>
        <Button icon="edit" onClick={() => setOpen(true)} testId="json-open">
          Open
        </Button>
      </div>
      {open && <JsonDialog draft={draft} close={() => setOpen(false)} />}
    </>
  );
}

function JsonDialog({ draft, close }: { draft: Draft; close(): void }) {
  const { keys, ...shown } = draft.mine.value;
  const [text, type] = useState(JSON.stringify(shown, null, 2));

  function takeOver(): void {
    const next = JSON.parse(text) as Settings;
    if (typeof next !== "object" || next === null || Array.isArray(next)) throw new Error("This is no object.");
    const absent = Object.fromEntries(Object.keys(shown).filter((key) => !(key in next)).map((key) => [key, undefined]));
    draft.change({ ...absent, ...next, ...(keys && { keys }) });
    close();
  }

  return (
    <FormDialog title={`${draft.app}, as JSON`} wide close={close} yes="Take it over" act={takeOver}>
      <TextField label="Settings" rows={20} mono value={text} onChange={type} spellcheck={false} autocapitalize="none" />
    </FormDialog>
  );
}

function Versions({ draft }: { draft: Draft }) {
  const { app } = draft;
  const pages = usePages<Version>((after, signal) => api.versions(app, after, signal).then(({ versions, after }) => [versions, after]), [app]);
  return (
    <>
      <Loaded load={pages} what="Versions" rows={3}>
        {(versions) => (
          <ul class="rows inset">
            {versions.map(({ revision, current, changed, what }) => (
              <li key={revision} data-testid="version">
                <span class="two-lines">
                  <span class="figures">
                    {revision === 0 ? "As the file has it" : `Revision ${revision}`} {current && <span class="badge accent">now</span>}
                  </span>
                  <small class="soft">
                    {what.join(", ") || "the beginning"}
                    {changed && (
                      <>
                        {" "}
                        · by {changed.name ?? changed.by}, <Ago at={changed.at} />
                      </>
                    )}
                  </small>
                </span>
                {!current && (
                  <Button
                    small
                    kind="quiet"
                    onClick={() =>
                      ask({
                        title: `Restore revision ${revision}?`,
                        words: "The app is set up again as it was then, by a new revision. Keys stay as they are now.",
                        yes: "Restore",
                        act: async () => {
                          await api.restore(app, revision, draft.base.value.revision);
                          await refresh(app);
                          say(`${app} is as it was in revision ${revision}.`);
                        },
                      })
                    }
                  >
                    Restore
                  </Button>
                )}
              </li>
            ))}
          </ul>
        )}
      </Loaded>
      <More pages={pages} words="Earlier ones" />
    </>
  );
}

function TheEnd({ draft }: { draft: Draft }) {
  const { app, from, in_file, revision } = draft.base.value;
  if (from === "file") {
    return (
      <p class="soft">
        <SourceBadge app={draft.base.value} /> This app is in the configuration file, and goes when it is taken out of it.
      </p>
    );
  }
  return (
    <div class="offer">
      <p>{in_file ? "What was set up live goes; the app is again as the configuration file says." : "The app goes, with its users, keys and members, for good."}</p>
      <Button
        kind="danger"
        icon="trash"
        testId="app-delete"
        onClick={() =>
          ask({
            title: in_file ? `Give ${app} back to the file?` : `Delete ${app}?`,
            words: in_file ? "Live settings and keys are taken away. Users and members stay." : "Clients are cut off, and nothing of it can be brought back.",
            yes: in_file ? "Give it back" : "Delete it",
            typed: app,
            act: async () => {
              await api.deleteApp(app, revision);
              const rest = new Map(drafts.value);
              rest.delete(app);
              drafts.value = rest;
              apps.last.value = undefined;
              await apps.load();
              say(`${app} is deleted.`);
              go("overview");
            },
          })
        }
      >
        {in_file ? "Give it back to the file" : "Delete the app"}
      </Button>
    </div>
  );
}
