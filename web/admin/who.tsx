import { useId, useState } from "preact/hooks";
import { Icon } from "../ui/icon.tsx";
import type { Who } from "./contract.ts";
import { whoList } from "./merge.ts";

const WORDS = [
  ["anyone", "Anyone"],
  ["users", "Users"],
  ["members", "Members"],
  ["token", "Token"],
  ["server", "Server"],
] as const;

const TITLES: Record<string, string> = {
  anyone: "Who may connect to the app, guests included",
  users: "Who has said by a token who it is: no guests",
  members: "Members of the channel",
  token: "Who brings a token for this channel",
  server: "Only the app's back end",
};

export interface WhoFieldProps {
  label: string;
  hint: string;
  who: Who | undefined;
  /** What holds when nothing is said. */
  otherwise: string;
  onChange(who: Who | undefined): void;
  testId?: string;
}

/** Who may do something: one of those who are on is enough. */
export function WhoField({ label, hint, who, otherwise, onChange, testId }: WhoFieldProps) {
  const id = useId();
  const [role, type] = useState("");
  const named = whoList(who);
  const roles = named.filter((one) => one.startsWith("role:"));
  const put = (next: readonly string[]) => onChange(next.length === 1 ? next[0]! : next);
  const toggle = (one: string) => put(named.includes(one) ? named.filter((other) => other !== one) : [...named, one]);

  function addRole(): void {
    const name = role.trim();
    if (name !== "" && !named.includes(`role:${name}`)) put([...named, `role:${name}`]);
    type("");
  }

  return (
    <div class="who" role="group" aria-labelledby={id} data-testid={testId}>
      <div>
        <span id={id} class="switch-name">
          {label}
        </span>
        <p class="hint">{hint}</p>
      </div>
      <div class="chips">
        {WORDS.map(([key, words]) => (
          <button key={key} type="button" class="chip" aria-pressed={named.includes(key)} title={TITLES[key]} onClick={() => toggle(key)}>
            {words}
          </button>
        ))}
        {roles.map((one) => (
          <button key={one} type="button" class="chip" aria-pressed="true" title="Take this role away" onClick={() => toggle(one)}>
            {one.slice(5)}
            <Icon name="close" />
          </button>
        ))}
        <input
          class="field chip-input"
          aria-label={`${label}: add a role`}
          placeholder="+ role"
          value={role}
          maxLength={64}
          spellcheck={false}
          autocapitalize="none"
          onInput={(event) => type(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter") return;
            event.preventDefault();
            addRole();
          }}
          onBlur={addRole}
        />
        {named.length === 0 && <span class="hint">{who === undefined ? otherwise : "nobody"}</span>}
        {named.length === 0 && who !== undefined && (
          <button type="button" class="chip" title="Say nothing here: what holds by itself" onClick={() => onChange(undefined)}>
            Reset: {otherwise}
          </button>
        )}
      </div>
    </div>
  );
}

export function whoWords(who: Who | undefined): string {
  const named = whoList(who);
  if (named.length === 0) return "nobody";
  return named.map((one) => one.replace(/^role:/, "")).join(", ");
}
