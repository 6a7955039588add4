import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Icon } from "../ui/icon.tsx";
import { hrefOf } from "./place.ts";
import { type Entry, entriesOfAll, search } from "./search.ts";

/** Finds sections by their words. The texts are fetched when it is first used. */
export function SearchField() {
  const [entries, know] = useState<readonly Entry[]>();
  const [query, ask] = useState("");
  const [chosen, choose] = useState(0);
  const [open, show] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const list = useId();

  useEffect(() => {
    const typed = (event: KeyboardEvent) => {
      const writes = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
      if (event.key !== "/" || writes || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      field.current?.focus();
    };
    addEventListener("keydown", typed);
    return () => removeEventListener("keydown", typed);
  }, []);

  const found = entries ? search(entries, query) : [];
  const shown = open && query.trim() !== "";

  const begin = () => {
    show(true);
    if (!entries) void entriesOfAll().then(know);
  };
  const end = () => {
    show(false);
    ask("");
    choose(0);
    field.current?.blur();
  };
  const go = (entry: Entry) => {
    location.hash = hrefOf(entry.page, entry.section);
    end();
  };
  const typed = (event: KeyboardEvent) => {
    if (event.key === "Escape") end();
    else if (event.key === "Enter" && found[chosen]) go(found[chosen]);
    else if (event.key === "ArrowDown" && found.length > 0) choose((chosen + 1) % found.length);
    else if (event.key === "ArrowUp" && found.length > 0) choose((chosen + found.length - 1) % found.length);
    else return;
    event.preventDefault();
  };

  useEffect(() => {
    document.getElementById(`${list}-${chosen}`)?.scrollIntoView({ block: "nearest" });
  }, [chosen, list]);

  return (
    <div class="search" role="search">
      <Icon name="search" />
      <input
        ref={field}
        class="field"
        type="search"
        role="combobox"
        list={undefined}
        placeholder="Search"
        aria-label="Search the documentation"
        aria-expanded={shown}
        aria-controls={list}
        aria-autocomplete="list"
        aria-activedescendant={shown && found[chosen] ? `${list}-${chosen}` : undefined}
        autocomplete="off"
        spellcheck={false}
        value={query}
        data-testid="search"
        onFocus={begin}
        onBlur={() => show(false)}
        onInput={(event) => {
          ask(event.currentTarget.value);
          choose(0);
          show(true);
        }}
        onKeyDown={typed}
      />
      <kbd aria-hidden="true">/</kbd>
      {shown && (
        <ul id={list} class="found card" role="listbox" aria-label="Found">
          {found.map((one, index) => (
            <li
              id={`${list}-${index}`}
              key={`${one.page}/${one.section}`}
              role="option"
              aria-selected={index === chosen}
              data-testid="found"
              // The field keeps the focus, so that it does not close the list before the click is one.
              onPointerDown={(event) => event.preventDefault()}
              onPointerMove={() => choose(index)}
              onClick={() => go(one)}
            >
              <span class="where">
                {one.title}
                {one.section && one.heading !== one.title && <span class="soft"> › {one.heading}</span>}
              </span>
              <span class="excerpt">{marked(one.excerpt, query)}</span>
            </li>
          ))}
          {found.length === 0 && <li class="nothing">{entries ? "Nothing has all of these words." : "Fetching the texts …"}</li>}
        </ul>
      )}
    </div>
  );
}

/** The words of the query stand out. */
function marked(text: string, query: string) {
  const words = query.split(/\s+/).filter(Boolean).map((word) => word.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (words.length === 0) return text;
  return text.split(new RegExp(`(${words.join("|")})`, "gi")).map((part, index) => (index % 2 === 1 ? <mark>{part}</mark> : part));
}
