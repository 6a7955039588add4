import { useState } from "preact/hooks";
import { Avatar } from "../../ui/avatar.tsx";
import { Badge } from "../../ui/badge.tsx";
import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { SwitchField, TextField } from "../../ui/field.tsx";
import { FormDialog } from "../../ui/form_dialog.tsx";
import { Icon } from "../../ui/icon.tsx";
import { Menu } from "../../ui/menu.tsx";
import { rove } from "../../ui/roving.ts";
import { say } from "../../ui/toast.tsx";
import * as api from "../api.ts";
import { Problem, useAttempt } from "../../ui/attempt.tsx";
import { ask } from "../confirm.tsx";
import type { User, UserMore } from "../contract.ts";
import { edits, putEdit, type Edit } from "../edits.ts";
import { Loaded, useLoad, type Load } from "../load.tsx";
import { same } from "../merge.ts";
import { More } from "../more.tsx";
import { usePages } from "../pages.ts";
import { go, href } from "../place.ts";
import type { AppViewProps } from "../shown.tsx";
import { Ago } from "../time.tsx";
import { View } from "../view.tsx";
import { figure } from "../words.ts";
import { lines } from "./new_app.tsx";

/** The app whose users are operators, and the role that makes them so. */
const OPERATORS = "xpush";
const ADMIN = "admin";

/** Where one of the app's users is shown. */
const placeOf = (app: string, ...user: string[]) => (app === OPERATORS ? ["operators", ...user] : ["apps", app, "users", ...user]);

/** Whom the app has something on record of. */
export function Users({ app, at }: AppViewProps) {
  const operators = app === OPERATORS;
  const [search, type] = useState("");
  const [making, make] = useState(false);
  const pages = usePages<User>((after, signal) => api.users(app, search.trim(), after, signal).then(({ users, after }) => [users, after]), [app, search.trim()]);
  return (
    <View
      title={operators ? "Operators" : "Users"}
      {...(operators ? {} : { app })}
      whole
      lead={operators ? "Who may sign in here: those with the role admin. They may everything, in every app." : "Of whom something is on record. Who comes with your own tokens needs no entry here."}
      actions={
        <Button icon="plus" onClick={() => make(true)} testId="user-new">
          {operators ? "New operator" : "New user"}
        </Button>
      }
    >
      <div class={at === undefined ? "panes" : "panes chosen"}>
        <section class="card pane pane-list" aria-label="Users">
          <div class="pane-search">
            <TextField label="Find" placeholder="Id or name" value={search} onChange={type} spellcheck={false} autocapitalize="none" testId="user-search" />
          </div>
          <div class="pane-scroll">
            <Loaded load={pages} what="Users">
              {(users) =>
                users.length === 0 && !pages.more ? (
                  <Blank
                    title={search ? "Nobody is called so" : "No users yet"}
                    drawing={<Drawing name="people" />}
                    actions={
                      <Button icon="plus" onClick={() => make(true)}>
                        New user
                      </Button>
                    }
                  >
                    {search ? "Neither an id nor a name has that in it." : "Accounts, and users with a name or roles, are listed here."}
                  </Blank>
                ) : (
                  <ul class="choose" onKeyDown={(event) => rove(event, "a")}>
                    {users.map((user, index) => (
                      <li key={user.user}>
                        <a
                          href={href(...placeOf(app, user.user))}
                          aria-current={user.user === at || undefined}
                          tabIndex={user.user === at || (index === 0 && !users.some((one) => one.user === at)) ? 0 : -1}
                          data-testid="user"
                        >
                          <Avatar user={user.user} name={user.name ?? undefined} />
                          <span class="two-lines">
                            <span>{user.name ?? user.user}</span>
                            {user.name && <small class="soft">{user.user}</small>}
                          </span>
                          {user.banned && <Badge kind="bad">banned</Badge>}
                        </a>
                      </li>
                    ))}
                  </ul>
                )
              }
            </Loaded>
            <More pages={pages} />
          </div>
        </section>
        {at === undefined ? (
          <section class="card pane hollow">
            <Blank title="Choose a user" drawing={<Drawing name="people" />}>
              Devices, conversations and what can be done are shown here.
            </Blank>
          </section>
        ) : (
          <One key={at} app={app} user={at} changed={pages.again} />
        )}
      </div>
      {making && (
        <NewUser
          app={app}
          close={() => make(false)}
          made={(user) => {
            make(false);
            pages.again();
            go(...placeOf(app, user));
          }}
        />
      )}
    </View>
  );
}

function One({ app, user, changed }: { app: string; user: string; changed(): void }) {
  const load = useLoad((signal) => api.user(app, user, signal), [app, user]);
  return (
    <section class="card pane pane-detail" aria-label={`User ${user}`}>
      <header class="card-head">
        <a class="button quiet small square back" href={href(...placeOf(app))} aria-label="Back to the users">
          <Icon name="chevronLeft" />
        </a>
        <Avatar user={user} name={load.data?.name ?? undefined} />
        <div class="pane-title">
          <h2>{load.data?.name ?? user}</h2>
          {load.data && <Facts user={load.data} />}
        </div>
        {load.data && <UserMenu app={app} user={load.data} again={load.again} changed={changed} />}
      </header>
      <div class="pane-scroll">
        <Loaded load={load} what="The user">
          {(data) => (
            <>
              <Profile
                app={app}
                user={data}
                saved={() => {
                  load.again();
                  changed();
                }}
              />
              <Devices app={app} user={data} load={load} />
              {app !== OPERATORS && <Conversations app={app} user={user} />}
            </>
          )}
        </Loaded>
      </div>
    </section>
  );
}

function Facts({ user }: { user: UserMore }) {
  const state = user.status?.state;
  return (
    <p class="line-of-badges">
      <span class="badge mono">{user.user}</span>
      {state && <Badge kind={state === "online" ? "good" : "plain"}>{state}</Badge>}
      {user.account && <Badge>account</Badge>}
      {user.banned && <Badge kind="bad">banned</Badge>}
    </p>
  );
}

function UserMenu({ app, user, again, changed }: { app: string; user: UserMore; again(): void; changed(): void }) {
  const name = user.name ?? user.user;
  return (
    <Menu
      label={`User ${name}`}
      towardsStart
      testId="user-menu"
      items={[
        {
          key: "revoke",
          words: "End all connections",
          icon: "cut",
          act: () =>
            ask({
              title: `End the connections of ${name}?`,
              words: "All tokens and logins that it was given until now are void. It may come back with newer ones.",
              yes: "End them",
              act: async () => {
                await api.revokeUser(app, user.user);
                say(`${name} is cut off within two seconds.`);
                again();
              },
            }),
        },
        {
          key: "erase",
          words: "Erase the user",
          icon: "trash",
          danger: true,
          apart: true,
          act: () =>
            ask({
              title: `Erase ${name}?`,
              words: "The account, devices, memberships and everything that it has said go, for good. Others' messages stay.",
              yes: "Erase",
              typed: user.user,
              act: async () => {
                await api.eraseUser(app, user.user);
                say(`${name} is being erased.`);
                changed();
                go(...placeOf(app));
              },
            }),
        },
      ]}
    />
  );
}

function Profile({ app, user, saved }: { app: string; user: UserMore; saved(): void }) {
  const key = `${app}/${user.user}`;
  const kept = { name: user.name ?? "", roles: user.roles.join(", ") };
  const edit = edits.value.get(key) ?? {};
  const { name, roles } = { ...kept, ...edit };
  const put = (part: Edit) => {
    const next = { ...edit, ...part };
    if (next.name === kept.name) delete next.name;
    if (next.roles === kept.roles) delete next.roles;
    putEdit(key, same(next, {}) ? undefined : next);
  };
  const changed: Parameters<typeof api.changeUser>[2] = {};
  if (name.trim() !== kept.name) changed.name = name.trim() || null;
  // Only what was touched here: others may have taken a role away meanwhile.
  if (lines(roles).join() !== user.roles.join()) changed.roles = lines(roles);
  const changes = !same(changed, {});
  const attempt = useAttempt(async () => {
    await api.changeUser(app, user.user, changed);
    putEdit(key, undefined);
    say("Saved.");
    saved();
  });
  return (
    <form class="form" onSubmit={attempt.begin} noValidate>
      <div class="form-row">
        <TextField label="Name" value={name} onChange={(name) => put({ name })} maxLength={64} testId="user-name" />
        <TextField label="Roles" hint="With commas between them." value={roles} onChange={(roles) => put({ roles })} spellcheck={false} autocapitalize="none" />
      </div>
      <SwitchField
        label="Banned"
        hint="It may not connect; connections that it has end."
        on={user.banned}
        onChange={(banned) =>
          void api.changeUser(app, user.user, { banned }).then(saved, (error: Error) => say(error.message, "bad"))
        }
        testId="user-banned"
      />
      <Problem failure={attempt.failure} />
      {changes && (
        <div class="form-actions">
          <Button kind="primary" type="submit" busy={attempt.busy} testId="user-save">
            Save
          </Button>
          <Button kind="quiet" onClick={() => putEdit(key, undefined)}>
            Discard
          </Button>
        </div>
      )}
      <dl class="facts">
        <div>
          <dt>Known since</dt>
          <dd>
            <Ago at={user.created_at} />
          </dd>
        </div>
        <div>
          <dt>Last seen</dt>
          <dd>{user.status?.state === "online" ? "now" : <Ago at={user.status?.seen_at} />}</dd>
        </div>
        <div>
          <dt>Logins</dt>
          <dd class="figures">{figure(user.logins)}</dd>
        </div>
      </dl>
    </form>
  );
}

function Devices({ app, user, load }: { app: string; user: UserMore; load: Load<UserMore> }) {
  return (
    <section class="pane-part" aria-label="Devices">
      <h3>Devices</h3>
      {user.devices.length === 0 ? (
        <p class="soft">None has named itself yet.</p>
      ) : (
        <ul class="rows">
          {user.devices.map(({ device, name, platform, seen_at }) => (
            <li key={device}>
              <span class="two-lines">
                <span>{name ?? device}</span>
                <small class="soft">
                  {[name && device, platform].filter(Boolean).join(" · ")} {(name || platform) && "· "}seen <Ago at={seen_at} />
                </small>
              </span>
              <Button
                kind="quiet"
                small
                onClick={() =>
                  ask({
                    title: `Log out ${name ?? device}?`,
                    words: "Everything that it was given until now is void, and its connections end.",
                    yes: "Log it out",
                    act: async () => {
                      await api.revokeUser(app, user.user, device);
                      load.again();
                    },
                  })
                }
              >
                Log out
              </Button>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Conversations({ app, user }: { app: string; user: string }) {
  const load = useLoad((signal) => api.conversations(app, user, signal), [app, user]);
  return (
    <section class="pane-part" aria-label="Conversations">
      <h3>Conversations</h3>
      <Loaded load={load} what="Conversations" rows={2}>
        {(channels) =>
          channels.length === 0 ? (
            <p class="soft">None in which something is kept.</p>
          ) : (
            <ul class="rows">
              {channels.map(({ channel, unread, active_at }) => (
                <li key={channel}>
                  <span class="two-lines">
                    <a href={href("apps", app, "channels", channel)}>
                      <code>{channel}</code>
                    </a>
                    <small class="soft">
                      active <Ago at={active_at} />
                    </small>
                  </span>
                  <span class={unread > 0 ? "badge accent figures" : "badge figures"}>{figure(unread)} unread</span>
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </section>
  );
}

function NewUser({ app, close, made }: { app: string; close(): void; made(user: string): void }) {
  const [user, setUser] = useState("");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  async function create(): Promise<void> {
    await api.createUser(app, { user: user.trim(), ...(name.trim() && { name: name.trim() }), ...(password && { password }), ...(app === OPERATORS && { roles: [ADMIN] }) });
    made(user.trim());
  }
  const what = app === OPERATORS ? "operator" : "user";
  return (
    <FormDialog title={`New ${what}`} close={close} yes={`Make the ${what}`} act={create} ready={user.trim() !== ""} yesTestId="user-make">
      <TextField label="User" hint="The id: what tokens and messages name it by." value={user} onChange={setUser} mono maxLength={128} spellcheck={false} autocapitalize="none" autofocus testId="user-id" />
      <TextField label="Name" value={name} onChange={setName} maxLength={64} />
      <TextField label="Password" hint="With one it is an account that can sign in. 8 characters or more." type="password" autocomplete="new-password" value={password} onChange={setPassword} maxLength={256} />
    </FormDialog>
  );
}
