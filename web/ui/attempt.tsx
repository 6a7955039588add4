import { useState } from "preact/hooks";
import { Icon } from "./icon.tsx";

/** Something that is begun by a button and may fail. */
export function useAttempt(act: () => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Error>();
  async function begin(event?: Event): Promise<void> {
    event?.preventDefault();
    setBusy(true);
    setFailure(undefined);
    await act().catch(setFailure);
    setBusy(false);
  }
  return { begin, busy, failure };
}

/** Why it has failed. */
export function Problem({ failure, testId }: { failure: Error | undefined; testId?: string }) {
  return (
    <div role="alert">
      {failure && (
        <p class="note bad" data-testid={testId}>
          <Icon name="alert" /> {failure.message}
        </p>
      )}
    </div>
  );
}
