import { useEffect, useState } from "preact/hooks";
import { Icon } from "./icon.tsx";

const SHOWN_MS = 2_000;

/** Copies `text` and says whether it did. */
export function CopyButton({ text, what, testId }: { text: string; what: string; testId?: string }) {
  const [outcome, setOutcome] = useState<"copied" | "failed" | undefined>();

  useEffect(() => {
    if (!outcome) return;
    const timer = setTimeout(() => setOutcome(undefined), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [outcome]);

  const label = outcome === "copied" ? "Copied" : outcome === "failed" ? "Select and copy by hand" : "Copy";
  return (
    <button
      type="button"
      class="button quiet small"
      data-testid={testId}
      onClick={async () => setOutcome((await copy(text)) ? "copied" : "failed")}
    >
      <Icon name={outcome === "copied" ? "check" : outcome === "failed" ? "alert" : "copy"} />
      <span aria-live="polite">
        {label}
        {!outcome && <span class="unseen"> {what}</span>}
      </span>
    </button>
  );
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** Pages on plain http from another machine have no `navigator.clipboard`. */
function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  document.body.append(area);
  const focused = document.activeElement;
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return copied;
}
