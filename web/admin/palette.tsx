import { signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "../ui/icon.tsx";
import { apps } from "./apps.ts";
import { INSTALLATION, NAMES } from "./frame.tsx";
import { go, VIEWS } from "./place.ts";

export const paletteOpen = signal(false);

const SHOWN = 9;

interface Target {
  words: string;
  where: string;
  icon: IconName;
  to: readonly string[];
}

/** Every view of every app by a few letters; a name with a colon in it is a channel. */
export function Palette() {
  const dialog = useRef<HTMLDialogElement>(null);
  const [query, ask] = useState("");
  const [at, move] = useState(0);
  const all = useMemo(targets, [apps.names.value]);
  const found = [...matching(all, query), ...guesses(query)].slice(0, SHOWN);

  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    addEventListener("hashchange", close);
    return () => {
      removeEventListener("hashchange", close);
      shown?.close();
    };
  }, []);

  function keys(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      move((at + step + found.length) % Math.max(1, found.length));
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (found[at]) choose(found[at]);
    }
  }

  return (
    <dialog ref={dialog} class="dialog palette" aria-label="Go to" data-testid="palette" onCancel={close} onClick={(event) => event.target === dialog.current && close()}>
      <label class="palette-ask">
        <Icon name="search" />
        <span class="unseen">Where to?</span>
        <input
          type="text"
          role="combobox"
          aria-expanded="true"
          aria-controls="palette-found"
          aria-activedescendant={found[at] ? `palette-${at}` : undefined}
          placeholder="An app, a view, a channel…"
          spellcheck={false}
          autocapitalize="none"
          value={query}
          onInput={(event) => {
            ask(event.currentTarget.value);
            move(0);
          }}
          onKeyDown={keys}
          data-testid="palette-input"
        />
      </label>
      <ul id="palette-found" role="listbox" aria-label="Places">
        {found.map((target, index) => (
          <li
            key={target.to.join("/")}
            id={`palette-${index}`}
            role="option"
            aria-selected={index === at}
            onPointerMove={() => index !== at && move(index)}
            onClick={() => choose(target)}
          >
            <Icon name={target.icon} />
            <span>{target.words}</span>
            <small>{target.where}</small>
          </li>
        ))}
      </ul>
      {found.length === 0 && <p class="soft palette-none">Nothing is called so.</p>}
    </dialog>
  );
}

function close(): void {
  paletteOpen.value = false;
}

function choose(target: Target): void {
  close();
  go(...target.to);
}

function targets(): Target[] {
  const ofApps = [...apps.names.value]
    .sort((a, b) => Number(b === apps.last.value) - Number(a === apps.last.value))
    .flatMap((app) => VIEWS.map((view) => ({ words: NAMES[view][0], where: app, icon: NAMES[view][1], to: ["apps", app, view] })));
  return [
    ...INSTALLATION.map(([key, words, icon]) => ({ words, where: "Installation", icon, to: [key] })),
    ...ofApps,
    { words: "New app", where: "Installation", icon: "plus", to: ["apps", "new"] },
  ];
}

/** Those in which every word of the query begins a word, or is in one. */
function matching(all: readonly Target[], query: string): Target[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter(({ words: name, where }) => words.every((word) => `${name} ${where}`.toLowerCase().includes(word)));
}

function guesses(query: string): Target[] {
  const name = query.trim();
  const app = apps.last.value ?? apps.names.value[0];
  if (!app || name === "" || /\s/.test(name)) return [];
  return [
    { words: name, where: `Channel of ${app}`, icon: "channel", to: ["apps", app, "channels", name] },
    { words: name, where: `User of ${app}`, icon: "user", to: ["apps", app, "users", name] },
  ];
}
