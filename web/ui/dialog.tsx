import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { Button } from "./button.tsx";

export interface DialogProps {
  title: string;
  /** Also by Escape. */
  onClose(): void;
  onSubmit?: () => void;
  children: ComponentChildren;
  actions?: ComponentChildren;
  wide?: boolean | undefined;
  testId?: string | undefined;
}

/** A window over the page, which waits for an answer. The browser keeps the focus in it and gives it back. */
export function Dialog({ title, onClose, onSubmit, children, actions, wide, testId }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? "dialog wide-dialog" : "dialog"}
      aria-labelledby={id}
      data-testid={testId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          onSubmit?.();
        }}
      >
        <header>
          <h2 id={id}>{title}</h2>
          <Button kind="quiet" icon="close" aria-label="Close" onClick={onClose} />
        </header>
        <div class="dialog-body">{children}</div>
        {actions && <footer>{actions}</footer>}
      </form>
    </dialog>
  );
}
