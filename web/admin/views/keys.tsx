import { useState } from "preact/hooks";
import { Badge } from "../../ui/badge.tsx";
import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Dialog } from "../../ui/dialog.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { SelectField, TextField } from "../../ui/field.tsx";
import { FormDialog } from "../../ui/form_dialog.tsx";
import { Icon } from "../../ui/icon.tsx";
import { Menu } from "../../ui/menu.tsx";
import { Snippet } from "../../ui/snippet.tsx";
import { Table } from "../../ui/table.tsx";
import { say } from "../../ui/toast.tsx";
import * as api from "../api.ts";
import { ask, RemoveButton } from "../confirm.tsx";
import type { Algorithm, ApiKey, Scope } from "../contract.ts";
import { refresh } from "../draft.ts";
import { Loaded, useLoad, type Load } from "../load.tsx";
import type { AppViewProps } from "../shown.tsx";
import { Ago } from "../time.tsx";
import { Section, View } from "../view.tsx";

const SCOPES: readonly (readonly [Scope, string])[] = [
  ["publish", "Messages and signals go out."],
  ["read", "Histories, and who is where, are read."],
  ["users", "Users, devices and members are seen and changed."],
  ["admin", "Everything, and this app's settings."],
];

const ALGORITHMS: readonly (readonly [Algorithm, string])[] = [
  ["HS256", "HS256, a shared secret"],
  ["ES256", "ES256, your public key"],
  ["RS256", "RS256, your public key"],
  ["EdDSA", "EdDSA, your public key"],
];

/** A secret that is shown this once. */
interface Shown {
  title: string;
  name: string;
  secret: string;
}

type SigningKeys = Awaited<ReturnType<typeof api.signingKeys>>;

export function Keys({ app }: AppViewProps) {
  const apiKeys = useLoad((signal) => api.apiKeys(app, signal), [app]);
  const signing = useLoad((signal) => api.signingKeys(app, signal), [app]);
  const [making, make] = useState<"api" | "signing">();
  const [shown, show] = useState<Shown>();
  return (
    <View title="Keys" app={app} lead="What your back ends show, and what your users' tokens are checked with.">
      <Section
        title="API keys"
        about="For your own servers: never in a browser. XPUSH keeps a digest only."
        actions={
          <Button icon="plus" onClick={() => make("api")} testId="api-key-new">
            New API key
          </Button>
        }
      >
        <div class="card">
          <Loaded load={apiKeys} what="API keys" rows={3}>
            {(keys) => <ApiKeys app={app} keys={keys} load={apiKeys} show={show} make={() => make("api")} />}
          </Loaded>
        </div>
      </Section>
      <Section
        title="Signing keys"
        about="Your back end signs a token for each user with one of them. To replace one: add the new one, sign with it, remove the old one when its last token has ended."
        actions={
          <Button icon="plus" disabled={!signing.data} onClick={() => make("signing")} testId="signing-key-new">
            New signing key
          </Button>
        }
      >
        <div class="card">
          <Loaded load={signing} what="Signing keys" rows={2}>
            {(state) => <SigningList app={app} state={state} load={signing} />}
          </Loaded>
        </div>
      </Section>
      {making === "api" && (
        <NewApiKey
          app={app}
          close={() => make(undefined)}
          made={(secret, name) => {
            make(undefined);
            show({ title: "The new API key", name, secret });
            apiKeys.again();
          }}
        />
      )}
      {making === "signing" && signing.data && (
        <NewSigningKey
          app={app}
          revision={signing.data.revision}
          close={() => make(undefined)}
          made={(id, secret) => {
            make(undefined);
            signing.again();
            void refresh(app);
            if (secret) show({ title: `The secret of ${id}`, name: id, secret });
            else say(`Tokens that name ${id} are good now.`);
          }}
        />
      )}
      {shown && (
        <Dialog
          title={shown.title}
          onClose={() => show(undefined)}
          testId="secret"
          actions={
            <Button kind="primary" onClick={() => show(undefined)}>
              I have it
            </Button>
          }
        >
          <p class="note warn">
            <Icon name="alert" /> Keep it now: it is shown this once.
          </p>
          <Snippet name={shown.name} text={shown.secret} what="the secret" testId="secret-text" />
        </Dialog>
      )}
    </View>
  );
}

function ApiKeys({ app, keys, load, show, make }: { app: string; keys: readonly ApiKey[]; load: Load<ApiKey[]>; show(shown: Shown): void; make(): void }) {
  if (keys.length === 0) {
    return (
      <Blank
        title="No API keys yet"
        drawing={<Drawing name="keys" />}
        actions={
          <Button kind="primary" icon="plus" onClick={make}>
            Make the first one
          </Button>
        }
      >
        With one your back end publishes, reads histories and keeps users.
      </Blank>
    );
  }
  return (
    <Table
      label="API keys"
      items={keys}
      keyOf={({ id }) => id}
      isGone={({ revoked_at }) => revoked_at !== null}
      testId="api-key"
      columns={[
        {
          name: "Name",
          cell: (key) => (
            <>
              {key.name ?? "Without a name"}
              <small class="soft cell-line mono">{key.id}</small>
            </>
          ),
        },
        { name: "Opens", kind: "wraps", cell: ({ scopes }) => scopes.map((scope) => <Badge key={scope}>{scope}</Badge>) },
        { name: "Made", spare: true, cell: ({ created_at }) => <Ago at={created_at} /> },
        { name: "Last used", spare: true, cell: ({ used_at }) => <Ago at={used_at} /> },
        { name: "State", cell: (key) => <KeyState apiKey={key} /> },
        { name: "", kind: "actions", cell: (key) => !key.revoked_at && <ApiKeyMenu app={app} apiKey={key} load={load} show={show} /> },
      ]}
    />
  );
}

function ApiKeyMenu({ app, apiKey: { id, name }, load, show }: { app: string; apiKey: ApiKey; load: Load<ApiKey[]>; show(shown: Shown): void }) {
  const called = name ?? id;
  return (
    <Menu
      label={`API key ${called}`}
      towardsStart
      items={[
        {
          key: "rotate",
          words: "Rotate the secret",
          icon: "refresh",
          act: () =>
            ask({
              title: `Rotate ${called}?`,
              words: "It gets a new secret. The one it has holds for another day, so that your back end can be given the new one without a break.",
              yes: "Rotate",
              act: async () => {
                const { secret } = await api.rotateApiKey(app, id);
                show({ title: "The new secret", name: called, secret });
                load.again();
              },
            }),
        },
        {
          key: "revoke",
          words: "Revoke",
          icon: "trash",
          danger: true,
          apart: true,
          act: () =>
            ask({
              title: `Revoke ${called}?`,
              words: "It opens nothing any more, on every server within two seconds. This cannot be undone.",
              yes: "Revoke",
              act: async () => {
                await api.revokeApiKey(app, id);
                load.again();
              },
            }),
        },
      ]}
    />
  );
}

function KeyState({ apiKey: { revoked_at, expires_at } }: { apiKey: ApiKey }) {
  if (revoked_at) return <Badge kind="bad">revoked</Badge>;
  if (expires_at && expires_at < Date.now()) return <Badge kind="warn">over</Badge>;
  return <Badge kind="good">good</Badge>;
}

function NewApiKey({ app, close, made }: { app: string; close(): void; made(secret: string, name: string): void }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<readonly Scope[]>(["publish"]);
  async function create(): Promise<void> {
    const { secret } = await api.createApiKey(app, { scopes, ...(name.trim() && { name: name.trim() }) });
    made(secret, name.trim() || "API key");
  }
  return (
    <FormDialog title="New API key" close={close} yes="Make the key" act={create} ready={scopes.length > 0} yesTestId="api-key-make">
      <TextField label="Name" hint="Which server has it: give each of yours its own." value={name} onChange={setName} maxLength={64} autofocus testId="api-key-name" />
      <fieldset class="form-field">
        <legend>What it opens</legend>
        <div class="checks">
          {SCOPES.map(([scope, hint]) => (
            <label key={scope}>
              <input
                type="checkbox"
                checked={scopes.includes(scope)}
                onChange={() => setScopes(scopes.includes(scope) ? scopes.filter((one) => one !== scope) : [...scopes, scope])}
              />
              <span>
                <strong>{scope}</strong>
                <small class="soft">{hint}</small>
              </span>
            </label>
          ))}
        </div>
      </fieldset>
    </FormDialog>
  );
}

function SigningList({ app, state, load }: { app: string; state: SigningKeys; load: Load<SigningKeys> }) {
  if (state.keys.length === 0) {
    return (
      <Blank title="No signing keys" drawing={<Drawing name="keys" />}>
        {state.jwks_url ? `Keys are fetched from ${state.jwks_url}.` : "Nobody but guests and accounts of XPUSH's own can connect."}
      </Blank>
    );
  }
  return (
    <Table
      label="Signing keys"
      items={state.keys}
      keyOf={({ id }) => id}
      testId="signing-key"
      columns={[
        { name: "Id (kid)", cell: ({ id }) => <code>{id}</code> },
        { name: "Algorithm", cell: ({ algorithm }) => algorithm },
        { name: "Added", cell: ({ created_at }) => <Ago at={created_at} /> },
        {
          name: "",
          kind: "actions",
          cell: ({ id }) => (
            <RemoveButton
              label={`Remove ${id}`}
              title={`Remove ${id}?`}
              words="No token of it is admitted any more. Connections that it has opened live on until their tokens end."
              yes="Remove"
              act={async () => {
                await api.removeSigningKey(app, id, state.revision);
                load.again();
                await refresh(app);
              }}
            />
          ),
        },
      ]}
    />
  );
}

function NewSigningKey({ app, revision, close, made }: { app: string; revision: number; close(): void; made(id: string, secret?: string): void }) {
  const [id, setId] = useState("");
  const [algorithm, setAlgorithm] = useState<Algorithm>("HS256");
  const [publicKey, setPublicKey] = useState("");
  const shared = algorithm === "HS256";
  async function add(): Promise<void> {
    const { key, secret } = await api.addSigningKey(app, { algorithm, ...(id.trim() && { id: id.trim() }), ...(!shared && { public_key: publicKey }) }, revision);
    made(key.id, secret);
  }
  return (
    <FormDialog title="New signing key" close={close} yes="Add the key" act={add} ready={shared || publicKey.trim() !== ""} yesTestId="signing-key-make">
      <TextField label="Id" hint="What tokens name it by (kid). Made, when it is left out." value={id} onChange={setId} mono maxLength={64} spellcheck={false} autocapitalize="none" autofocus />
      <SelectField label="Algorithm" value={algorithm} options={ALGORITHMS} onChange={setAlgorithm} hint={shared ? "The secret is made here and shown once." : "The private key stays with you."} />
      {!shared && <TextField label="Public key" rows={6} mono placeholder="-----BEGIN PUBLIC KEY-----" value={publicKey} onChange={setPublicKey} spellcheck={false} />}
    </FormDialog>
  );
}
