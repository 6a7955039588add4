import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Brand } from "../ui/frame.tsx";
import { Icon, type IconName } from "../ui/icon.tsx";
import { Menu } from "../ui/menu.tsx";
import { ThemeSwitch } from "../ui/theme.tsx";
import { say } from "../ui/toast.tsx";
import { apps } from "./apps.ts";
import { ChangePassword } from "./change_password.tsx";
import { Confirm } from "./confirm.tsx";
import { drafts, unsaved } from "./draft.ts";
import { edits } from "./edits.ts";
import { Palette, paletteOpen } from "./palette.tsx";
import { go, href, place, VIEWS, type View } from "./place.ts";
import { SaveBar } from "./save.tsx";
import { signOut } from "./session.ts";
import { Shown } from "./shown.tsx";

/** Who was signed in last, in this window. */
let lastHere: string | undefined;

/** The side is over the page, on phones. */
const sideOpen = signal(false);

export const NAMES: Record<View, readonly [words: string, icon: IconName]> = {
  connect: ["Connect", "plug"],
  channels: ["Channels", "channel"],
  users: ["Users", "users"],
  rules: ["Rules", "rule"],
  keys: ["Keys", "key"],
  hooks: ["Hooks", "hook"],
  files: ["Files", "file"],
  settings: ["Settings", "settings"],
};

export const INSTALLATION = [
  ["overview", "Overview", "apps"],
  ["servers", "Servers", "server"],
  ["audit", "Audit", "audit"],
  ["operators", "Operators", "user"],
] as const;

/** What is around every view: where one is, and where one can go. */
export function Frame({ operator }: { operator: { user: string; name: string } }) {
  const main = useRef<HTMLElement>(null);
  const at = place.value;

  useEffect(() => {
    void apps.load();
    // What somebody else has left unsaved here is not this operator's to save.
    if (lastHere !== undefined && lastHere !== operator.user) forget();
    lastHere = operator.user;
  }, []);

  useEffect(() => {
    sideOpen.value = false;
    main.current?.scrollTo(0, 0);
  }, [at.join("/")]);

  // Whoever goes to another view is there, and hears of it; what is chosen within one stays where it was chosen.
  const view = at.slice(0, 3).join("/");
  const arrived = useRef(view);
  useEffect(() => {
    if (arrived.current === view) return;
    arrived.current = view;
    main.current?.querySelector("h1")?.focus({ preventScroll: true });
  }, [view]);

  useEffect(() => {
    const asked = (event: BeforeUnloadEvent) => {
      if (unsaved.value || edits.value.size > 0) event.preventDefault();
    };
    const keys = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        paletteOpen.value = !paletteOpen.value;
      }
      if (event.key === "Escape") sideOpen.value = false;
    };
    addEventListener("beforeunload", asked);
    addEventListener("keydown", keys);
    return () => {
      removeEventListener("beforeunload", asked);
      removeEventListener("keydown", keys);
    };
  }, []);

  return (
    <div class={sideOpen.value ? "admin side-open" : "admin"}>
      <a class="skip" href="#content" onClick={skip}>
        To the content
      </a>
      <header class="phone-top">
        <Button kind="quiet" icon="menu" aria-label="Menu" aria-expanded={sideOpen.value} onClick={() => (sideOpen.value = !sideOpen.value)} testId="side-toggle" />
        <span class="phone-title">{titleOf(at)}</span>
        <Button kind="quiet" icon="search" aria-label="Go to…" onClick={() => (paletteOpen.value = true)} />
      </header>
      <button type="button" class="side-shade" aria-label="Close the menu" tabIndex={-1} onClick={() => (sideOpen.value = false)} />
      <Side operator={operator} at={at} />
      <main class="main" id="content" tabIndex={-1} ref={main}>
        <Shown at={at} />
      </main>
      <SaveBar />
      {paletteOpen.value && <Palette />}
      <Confirm />
    </div>
  );
}

function Side({ operator, at }: { operator: { user: string; name: string }; at: readonly string[] }) {
  const app = current(at);
  return (
    <aside class="side">
      <div class="side-head">
        <Brand />
        <ThemeSwitch />
      </div>
      <button type="button" class="go-to" data-testid="go-to" onClick={() => (paletteOpen.value = true)}>
        <Icon name="search" />
        <span>Go to…</span>
        <kbd>Ctrl K</kbd>
      </button>
      <nav aria-label="Installation">
        <ul>
          {INSTALLATION.map(([key, words, icon]) => (
            <Item key={key} to={[key]} icon={icon} current={(at[0] ?? "overview") === key}>
              {words}
            </Item>
          ))}
        </ul>
      </nav>
      <AppMenu app={app} at={at} />
      {app && (
        <nav aria-label={`App ${app}`}>
          <ul>
            {VIEWS.map((view) => (
              <Item key={view} to={["apps", app, view]} icon={NAMES[view][1]} current={at[0] === "apps" && at[1] === app && (at[2] ?? "connect") === view}>
                {NAMES[view][0]}
                {view === "rules" && drafts.value.get(app)?.dirty.value && <span class="unsaved" title="Not saved yet" />}
              </Item>
            ))}
          </ul>
        </nav>
      )}
      <div class="side-foot">
        <OperatorMenu operator={operator} />
      </div>
    </aside>
  );
}

function OperatorMenu({ operator }: { operator: { user: string; name: string } }) {
  const [changing, change] = useState(false);
  return (
    <>
      <Menu
        label="sign out, password"
        class="operator-button"
        testId="operator-menu"
        items={[
          { key: "password", words: "Change my password", icon: "key", act: () => change(true) },
          { key: "sign-out", words: "Sign out", icon: "leave", apart: true, act: leave },
        ]}
      >
        <Avatar user={operator.user} name={operator.name} />
        <span class="side-who">
          {operator.name} <small>Operator</small>
        </span>
        <Icon name="dots" />
      </Menu>
      {changing && <ChangePassword close={() => change(false)} />}
    </>
  );
}

function AppMenu({ app, at }: { app: string | undefined; at: readonly string[] }) {
  const all = apps.names.value;
  const view = at[0] === "apps" ? at[2] : undefined;
  return (
    <div class="side-app">
      <Menu
        label="choose an app"
        class="app-button"
        testId="app-menu"
        items={[
          ...all.map((name) => ({ key: name, words: name, current: name === app, act: () => go("apps", name, view ?? "connect") })),
          { key: "new", words: "New app", icon: "plus" as const, apart: all.length > 0, act: () => go("apps", "new") },
        ]}
      >
        <span class="app-sign" aria-hidden="true">
          {app?.[0]?.toUpperCase() ?? "+"}
        </span>
        <span class="app-name">
          <small>App </small>
          {app ?? "choose one"}
        </span>
        <Icon name="chevronDown" />
      </Menu>
    </div>
  );
}

function Item({ to, icon, current, children }: { to: readonly string[]; icon: IconName; current: boolean; children: ComponentChildren }) {
  return (
    <li>
      <a href={href(...to)} aria-current={current ? "page" : undefined}>
        <Icon name={icon} />
        {children}
      </a>
    </li>
  );
}

/** The app that the page is about: the one shown last, where a view is about none. */
function current(at: readonly string[]): string | undefined {
  const named = at[0] === "apps" && at[1] !== "new" ? at[1] : undefined;
  if (named) apps.last.value = named;
  return named ?? apps.last.value ?? apps.names.value[0];
}

function titleOf(at: readonly string[]): string {
  if (at[0] === "apps") return at[1] === "new" ? "New app" : `${at[1]} · ${NAMES[(at[2] ?? "connect") as View]?.[0] ?? ""}`;
  return INSTALLATION.find(([key]) => key === (at[0] ?? "overview"))?.[1] ?? "XPUSH";
}

/** The address stays what it is: it says what is shown. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

/** Nothing that was begun here is left. */
function forget(): void {
  drafts.value = new Map();
  edits.value = new Map();
}

function leave(): void {
  if ((unsaved.value || edits.value.size > 0) && !confirm("There are changes that are not saved. Sign out and lose them?")) return;
  signOut().then(
    forget,
    (error: Error) => say(error.message, "bad"),
  );
}
