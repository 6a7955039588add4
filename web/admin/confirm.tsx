import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { TextField } from "../ui/field.tsx";
import { FormDialog } from "../ui/form_dialog.tsx";

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

/** Takes something away, when it was asked once more. `label`: of what, for whoever does not see the row. */
export function RemoveButton({ label, ...question }: Question & { label: string }) {
  return <Button kind="quiet" small icon="trash" aria-label={label} onClick={() => ask(question)} />;
}

/** Where questions appear: once on a page. */
export function Confirm() {
  return question.value ? <Asked key={question.value.title} question={question.value} /> : null;
}

function Asked({ question: { title, words, yes, typed, act } }: { question: Question }) {
  const [text, type] = useState("");
  const close = () => (question.value = undefined);
  return (
    <FormDialog title={title} close={close} yes={yes} act={() => act().then(close)} ready={typed === undefined || text.trim() === typed} danger testId="confirm" yesTestId="confirm-yes">
      <p>{words}</p>
      {typed !== undefined && <TextField label={`Type ${typed} to go on`} value={text} onChange={type} mono autocomplete="off" spellcheck={false} autocapitalize="none" testId="confirm-typed" />}
    </FormDialog>
  );
}
