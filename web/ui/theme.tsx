import { signal } from "@preact/signals";
import { Icon } from "./icon.tsx";

type Theme = "light" | "dark";

/** Read before the first paint by public/assets/theme.js. */
const KEY = "xpush.theme";

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const theme = signal<Theme>(chosen() ?? (systemDark.matches ? "dark" : "light"));

systemDark.addEventListener("change", () => {
  if (!chosen()) theme.value = systemDark.matches ? "dark" : "light";
});

/** Switches between light and dark and remembers the choice; follows the system until there is one. */
export function ThemeSwitch() {
  const other = theme.value === "dark" ? "light" : "dark";
  return (
    <button
      type="button"
      class="button quiet square"
      aria-label={`Switch to ${other} colours`}
      title={`Switch to ${other} colours`}
      data-testid="theme-switch"
      onClick={() => choose(other)}
    >
      <Icon name={other === "dark" ? "moon" : "sun"} />
    </button>
  );
}

function chosen(): Theme | undefined {
  const { theme } = document.documentElement.dataset;
  return theme === "light" || theme === "dark" ? theme : undefined;
}

function choose(next: Theme): void {
  document.documentElement.dataset["theme"] = next;
  theme.value = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // Not remembered, where the browser keeps nothing; it still holds for this page.
  }
}
