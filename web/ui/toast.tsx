import { signal } from "@preact/signals";
import { Icon } from "./icon.tsx";
import { Button } from "./button.tsx";

const SHOWN_MS = 5_000;

interface Toast {
  id: number;
  tone: "good" | "bad";
  words: string;
}

const toasts = signal<readonly Toast[]>([]);
let last = 0;

/** Says what has become of something, for some seconds; a failure stays until it is put away. */
export function say(words: string, tone: Toast["tone"] = "good"): void {
  const toast = { id: ++last, tone, words };
  toasts.value = [...toasts.value.slice(-2), toast];
  if (tone === "good") setTimeout(() => away(toast.id), SHOWN_MS);
}

function away(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

/** Where toasts appear: once on a page. */
export function Toasts() {
  return (
    <div class="toasts" role="status" data-testid="toasts">
      {toasts.value.map(({ id, tone, words }) => (
        <div class={`toast ${tone}`} key={id}>
          <Icon name={tone === "good" ? "check" : "alert"} />
          <span>{words}</span>
          <Button kind="quiet" small icon="close" aria-label="Put away" onClick={() => away(id)} />
        </div>
      ))}
    </div>
  );
}
