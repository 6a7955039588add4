import type { ComponentChildren } from "preact";
import { Problem, useAttempt } from "./attempt.tsx";
import { Button } from "./button.tsx";
import { Dialog } from "./dialog.tsx";

export interface FormDialogProps {
  title: string;
  close(): void;
  /** On the button. */
  yes: string;
  /** What the button does. When it fails, the window stays and says why. */
  act(): Promise<unknown> | void;
  /** Whether everything is there that it takes. */
  ready?: boolean;
  /** It takes something away. */
  danger?: boolean;
  wide?: boolean;
  children: ComponentChildren;
  testId?: string;
  /** Of the button. */
  yesTestId?: string;
}

/** A window that asks for something and does it; or not, by "Cancel" and Escape. */
export function FormDialog({ title, close, yes, act, ready = true, danger, wide, children, testId, yesTestId }: FormDialogProps) {
  const attempt = useAttempt(async () => {
    await act();
  });
  return (
    <Dialog
      title={title}
      onClose={close}
      onSubmit={() => ready && !attempt.busy && void attempt.begin()}
      wide={wide}
      testId={testId}
      actions={
        <>
          <Button kind="quiet" onClick={close}>
            Cancel
          </Button>
          <Button kind={danger ? "danger" : "primary"} type="submit" busy={attempt.busy} disabled={!ready} testId={yesTestId}>
            {yes}
          </Button>
        </>
      }
    >
      {children}
      <Problem failure={attempt.failure} />
    </Dialog>
  );
}
