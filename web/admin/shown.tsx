import type { FunctionComponent } from "preact";
import { Blank } from "../ui/blank.tsx";
import { Drawing } from "../ui/drawing.tsx";
import { href, type Place, type View } from "./place.ts";
import { Audit } from "./views/audit.tsx";
import { Channels } from "./views/channels.tsx";
import { Connect } from "./views/connect.tsx";
import { Files } from "./views/files.tsx";
import { Hooks } from "./views/hooks.tsx";
import { Keys } from "./views/keys.tsx";
import { NewApp } from "./views/new_app.tsx";
import { Overview } from "./views/overview.tsx";
import { Rules } from "./views/rules.tsx";
import { Servers } from "./views/servers.tsx";
import { SettingsView } from "./views/settings.tsx";
import { Users } from "./views/users.tsx";

/** A view of an app; `at` is what is chosen in it. */
export interface AppViewProps {
  app: string;
  at: string | undefined;
}

const OF_APP: Record<View, FunctionComponent<AppViewProps>> = {
  connect: Connect,
  channels: Channels,
  users: Users,
  rules: Rules,
  keys: Keys,
  hooks: Hooks,
  files: Files,
  settings: SettingsView,
};

export function Shown({ at }: { at: Place }) {
  const [first = "overview", app, view = "connect", chosen] = at;
  if (first === "overview") return <Overview />;
  if (first === "servers") return <Servers />;
  if (first === "audit") return <Audit />;
  // Their own app is none to be managed otherwise.
  if (first === "operators") return <Users app="xpush" at={app} />;
  if (first === "apps" && app === "new") return <NewApp />;
  const Shown = first === "apps" && app !== undefined ? OF_APP[view as View] : undefined;
  if (Shown && app !== undefined) return <Shown key={`${app}/${view}`} app={app} at={chosen} />;
  return (
    <Blank title="There is nothing here" drawing={<Drawing name="broken" />} actions={<a class="button outline" href={href("overview")}>To the overview</a>}>
      The address leads nowhere on this page.
    </Blank>
  );
}
