import { useState } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { Icon } from "../ui/icon.tsx";
import { say } from "../ui/toast.tsx";
import { type Draft, drafts } from "./draft.ts";
import { type Difference, differences } from "./merge.ts";
import { count } from "./words.ts";

/** Whatever is not saved yet, in sight from everywhere. */
export function SaveBar() {
  const waiting = [...drafts.value.values()].filter((draft) => draft.dirty.value);
  return (
    <div class="save-bars">
      {waiting.map((draft) => (
        <OneBar key={draft.app} draft={draft} named={waiting.length > 1} />
      ))}
    </div>
  );
}

function OneBar({ draft, named }: { draft: Draft; named: boolean }) {
  const [looking, look] = useState(false);
  const changes = draft.changes();
  async function save(how = () => draft.save()): Promise<void> {
    if (await how()) say(`Saved. Servers take it up within two seconds.`);
  }
  return (
    <section class="save-bar" aria-label="Changes that are not saved" data-testid="save-bar">
      <div class="save-words">
        <strong>{count(changes.length, "unsaved change")}</strong>
        <span class="soft">
          {named && `${draft.app}: `}
          {changes
            .slice(0, 2)
            .map(({ what }) => what)
            .join(" · ")}
          {changes.length > 2 && " …"}
        </span>
        {draft.failure.value && (
          <p class="note bad" role="alert" data-testid="save-failure">
            <Icon name="alert" /> {draft.failure.value.message}
          </p>
        )}
      </div>
      <Button kind="quiet" onClick={() => look(true)} testId="review">
        Review
      </Button>
      <Button kind="quiet" onClick={() => draft.discard()} testId="discard">
        Discard
      </Button>
      <Button kind="primary" busy={draft.saving.value} onClick={() => void save()} testId="save">
        Save
      </Button>
      {looking && (
        <Dialog title="What saving changes" wide onClose={() => look(false)} actions={<Button onClick={() => look(false)}>Back</Button>}>
          <Changes changes={changes} before="Now" after="Then" />
        </Dialog>
      )}
      {draft.theirs.value && <Conflict draft={draft} save={save} />}
    </section>
  );
}

/** Somebody else was faster: nothing is lost, whichever is chosen. */
function Conflict({ draft, save }: { draft: Draft; save(how: () => Promise<boolean>): Promise<void> }) {
  const theirs = draft.theirs.value!;
  const base = draft.base.value.settings;
  const [others, own] = [differences(base, theirs.settings), draft.changes()];
  const both = new Set(others.map(({ what }) => what).filter((what) => own.some((one) => one.what === what)));
  return (
    <Dialog
      title={`Somebody else has changed ${draft.app}`}
      wide
      testId="conflict"
      onClose={() => (draft.theirs.value = undefined)}
      actions={
        <>
          <Button kind="quiet" onClick={() => (draft.theirs.value = undefined)}>
            Decide later
          </Button>
          <Button onClick={() => draft.takeTheirs()} testId="take-theirs">
            Take theirs
          </Button>
          <Button kind="primary" onClick={() => void save(() => draft.keepMine())} testId="keep-mine">
            Keep mine
          </Button>
        </>
      }
    >
      <p>
        <strong>Keep mine</strong> saves what you have changed, and leaves everything else as they have it.{" "}
        {both.size > 0 && `Where both of you have changed the same (${[...both].join(", ")}), yours holds. `}
        <strong>Take theirs</strong> throws your changes away.
      </p>
      <h3>What they have changed</h3>
      <Changes changes={others} before="Before" after="Theirs" marked={both} />
      <h3>What you have changed</h3>
      <Changes changes={own} before="Before" after="Yours" marked={both} />
    </Dialog>
  );
}

function Changes({ changes, before, after, marked }: { changes: readonly Difference[]; before: string; after: string; marked?: ReadonlySet<string> }) {
  if (changes.length === 0) return <p class="soft">Nothing.</p>;
  return (
    <dl class="changes">
      {changes.map((change) => (
        <div key={change.what}>
          <dt>
            {change.what}
            {marked?.has(change.what) && <span class="badge warn">both</span>}
          </dt>
          <dd class="before">
            <span>{before}</span>
            {change.before ?? <em>not there</em>}
          </dd>
          <dd class="after">
            <span>{after}</span>
            {change.after ?? <em>taken away</em>}
          </dd>
        </div>
      ))}
    </dl>
  );
}
