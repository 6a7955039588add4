import { useState } from "preact/hooks";
import { Button } from "../../ui/button.tsx";
import { Choice, SwitchField, TextField } from "../../ui/field.tsx";
import { Icon } from "../../ui/icon.tsx";
import { Snippet } from "../../ui/snippet.tsx";
import * as api from "../api.ts";
import { apps } from "../apps.ts";
import type { Accounts } from "../contract.ts";
import { go, href } from "../place.ts";
import { View } from "../view.tsx";

/** An app, in four questions. */
export function NewApp() {
  const [name, setName] = useState("");
  const [guests, setGuests] = useState(true);
  const [accounts, setAccounts] = useState<Accounts>("off");
  const [origins, setOrigins] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Error>();
  const [made, setMade] = useState<{ app: string; key?: { id: string; algorithm: string; secret: string } }>();

  async function make(event: Event): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setFailure(undefined);
    try {
      const answer = await api.createApp(name.trim(), { guests, accounts, origins: lines(origins) });
      await apps.load();
      setMade({ app: answer.app.app, ...(answer.key && { key: answer.key }) });
      if (!answer.key) go("apps", answer.app.app, "connect");
    } catch (error) {
      setFailure(error as Error);
    }
    setBusy(false);
  }

  if (made?.key) {
    return (
      <View title={`${made.app} is there`} lead="Its signing key is shown this once: your back end signs its users' tokens with it.">
        <div class="card form narrow" data-testid="app-made">
          <p class="note warn">
            <Icon name="alert" /> Keep it now. XPUSH does not show it again; another one can be made at any time.
          </p>
          <Snippet name={`Key ${made.key.id}, ${made.key.algorithm}`} text={made.key.secret} what="the secret" testId="app-secret" />
          <div class="form-actions">
            <a class="button primary" href={href("apps", made.app, "connect")} data-testid="go-connect">
              Connect the first client
            </a>
            <a class="button outline" href={href("apps", made.app, "rules")}>
              Look at its rules
            </a>
          </div>
        </div>
      </View>
    );
  }

  return (
    <View title="New app" lead="A tenant of its own: its users, channels and keys never meet another app's.">
      <form class="card form narrow" onSubmit={make} noValidate>
        <TextField
          label="Name"
          hint="Clients name it when they connect: letters, digits, - and _."
          value={name}
          onChange={setName}
          mono
          maxLength={64}
          spellcheck={false}
          autocapitalize="none"
          autofocus
          testId="app-name"
        />
        <SwitchField label="Guests" hint="Whoever connects without a token is welcome, as somebody new." on={guests} onChange={setGuests} testId="app-guests" />
        <Choice
          label="Accounts that XPUSH keeps"
          hint={ACCOUNTS[accounts]}
          value={accounts}
          options={[
            ["off", "None"],
            ["invited", "Invited"],
            ["open", "Open"],
          ]}
          onChange={setAccounts}
        />
        <TextField
          label="Pages that may connect"
          hint="One a line, as https://www.example.com. Programs may connect in any case."
          rows={2}
          mono
          value={origins}
          onChange={setOrigins}
          spellcheck={false}
          autocapitalize="none"
        />
        {failure && (
          <p class="note bad" role="alert">
            <Icon name="alert" /> {failure.message}
          </p>
        )}
        <div class="form-actions">
          <Button kind="primary" type="submit" busy={busy} disabled={name.trim() === ""} testId="app-create">
            Make the app
          </Button>
          <a class="button quiet" href={href("overview")}>
            Cancel
          </a>
        </div>
        <p class="hint">It begins with the rules of the demo: chats, rooms with members, personal and live channels.</p>
      </form>
    </View>
  );
}

export const ACCOUNTS: Record<Accounts, string> = {
  off: "Who one is says your own back end, by tokens.",
  invited: "Operators make the accounts.",
  open: "Whoever registers has one.",
};

/** What stands on lines, without what is empty. */
export function lines(text: string): string[] {
  return text
    .split(/[\n,]/)
    .map((line) => line.trim())
    .filter(Boolean);
}
