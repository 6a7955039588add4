import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { TextField } from "../ui/field.tsx";
import { Icon } from "../ui/icon.tsx";

export interface Question {
  title: string;
  /** What it means. */
  words: string;
  /** On the button. */
  yes: string;
  /** What has to be typed, for what cannot be undone. */
  typed?: string;
  act(): Promise<unknown>;
}

const question = signal<Question | undefined>();

/** Asks before something that hurts. */
export function ask(next: Question): void {
  question.value = next;
}

/** Where questions appear: once on a page. */
export function Confirm() {
  return question.value ? <Asked key={question.value.title} question={question.value} /> : null;
}

function Asked({ question: { title, words, yes, typed, act } }: { question: Question }) {
  const [text, type] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  const ready = typed === undefined || text.trim() === typed;
  const close = () => (question.value = undefined);

  async function go(): Promise<void> {
    if (!ready) return;
    setBusy(true);
    setFailure(undefined);
    await act().then(close, (error: Error) => setFailure(error.message));
    setBusy(false);
  }

  return (
    <Dialog
      title={title}
      onClose={close}
      onSubmit={() => void go()}
      testId="confirm"
      actions={
        <>
          <Button kind="quiet" onClick={close}>
            Cancel
          </Button>
          <Button kind="danger" type="submit" busy={busy} disabled={!ready} testId="confirm-yes">
            {yes}
          </Button>
        </>
      }
    >
      <p>{words}</p>
      {typed !== undefined && <TextField label={`Type ${typed} to go on`} value={text} onChange={type} mono autocomplete="off" spellcheck={false} autocapitalize="none" testId="confirm-typed" />}
      {failure && (
        <p class="note bad" role="alert">
          <Icon name="alert" /> {failure}
        </p>
      )}
    </Dialog>
  );
}
