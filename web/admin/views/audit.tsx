import { useState } from "preact/hooks";
import { Button } from "../../ui/button.tsx";
import { SelectField, TextField } from "../../ui/field.tsx";
import * as api from "../api.ts";
import { apps } from "../apps.ts";
import type { Entry } from "../contract.ts";
import { Entries } from "../entries.tsx";
import { Loaded } from "../load.tsx";
import { More } from "../more.tsx";
import { usePages } from "../pages.ts";
import { View } from "../view.tsx";

/** Who has done what. */
export function Audit() {
  const [app, setApp] = useState("");
  const [by, setBy] = useState("");
  const pages = usePages<Entry>((after, signal) => api.audit({ app, by: by.trim(), ...(after && { after }), limit: 50 }, signal).then(({ entries, after }) => [entries, after]), [app, by.trim()]);
  return (
    <View
      title="Audit"
      lead="Every change by this page, by the API and by the command line, and every sign-in. Secrets are never in it."
      actions={
        <Button icon="refresh" onClick={pages.again}>
          Refresh
        </Button>
      }
    >
      <div class="filters">
        <SelectField label="App" value={app} options={[["", "All of them"] as const, ...apps.names.value.map((name) => [name, name] as const)]} onChange={setApp} testId="audit-app" />
        <TextField label="By" placeholder="anybody" value={by} onChange={setBy} spellcheck={false} autocapitalize="none" />
      </div>
      <div class="card">
        <Loaded load={pages} what="Entries" rows={8}>
          {(entries) => <Entries entries={entries} />}
        </Loaded>
        <More pages={pages} words="Earlier ones" />
      </div>
    </View>
  );
}
