import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { TextField } from "../ui/field.tsx";
import { Icon } from "../ui/icon.tsx";
import { ThemeSwitch } from "../ui/theme.tsx";
import { Problem, useAttempt } from "../ui/attempt.tsx";
import { isSetUpNeeded, needsSetUp, setUp, signIn, signedOutBecause } from "./session.ts";

const SHORTEST = 8;

/** For operators: user and password. */
export function SignIn() {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const attempt = useAttempt(() => signIn(user.trim(), password));
  return (
    <Entrance title="Sign in" lead="For operators of this installation.">
      {needsSetUp.value && (
        <p class="note warn" role="status">
          <Icon name="alert" />
          <span>
            There is no operator yet. Open the link that the server has printed, or, where it runs: <code>xpush admin create</code>
          </span>
        </p>
      )}
      {signedOutBecause.value && (
        <p class="note warn" role="status">
          <Icon name="alert" /> {signedOutBecause.value}
        </p>
      )}
      <form onSubmit={attempt.begin} noValidate>
        <TextField label="User" value={user} onChange={setUser} autocomplete="username" autocapitalize="none" spellcheck={false} maxLength={128} autofocus testId="sign-in-user" />
        <Password label="Password" value={password} onChange={setPassword} autocomplete="current-password" testId="sign-in-password" />
        <Problem failure={attempt.failure} testId="entrance-failure" />
        <Button kind="primary" type="submit" busy={attempt.busy} disabled={!user.trim() || !password} testId="sign-in">
          Sign in
        </Button>
      </form>
      {!needsSetUp.value && (
        <p class="hint">
          Forgotten? Where the server runs: <code>xpush admin create</code>
        </p>
      )}
    </Entrance>
  );
}

/** For whoever has the link that the server prints while there is no operator. */
export function SetUp({ token, done }: { token: string; done(): void }) {
  const [user, setUser] = useState("");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const attempt = useAttempt(async () => {
    await setUp(token, user.trim(), password, name.trim());
    done();
  });
  const short = password !== "" && [...password].length < SHORTEST;
  const [used, setUsed] = useState(false);
  useEffect(() => void isSetUpNeeded().then((needed) => setUsed(!needed), () => undefined), []);
  if (used) {
    return (
      <Entrance title="There is an operator already" lead="This link has been used. Whoever made the first operator can make more of them.">
        <Button kind="primary" onClick={done} testId="setup-used">
          Sign in
        </Button>
      </Entrance>
    );
  }
  return (
    <Entrance title="Welcome to XPUSH" lead="Make the first operator. This link works once; others are made by operators.">
      <ol class="steps" aria-label="What comes">
        <li aria-current="step">Operator</li>
        <li>App</li>
        <li>First client</li>
      </ol>
      <form onSubmit={attempt.begin} noValidate>
        <TextField label="User" value={user} onChange={setUser} autocomplete="username" autocapitalize="none" spellcheck={false} maxLength={128} autofocus testId="setup-user" />
        <TextField label="Name" hint="As others see you; may be left out." value={name} onChange={setName} autocomplete="name" maxLength={64} testId="setup-name" />
        <Password
          label="Password"
          value={password}
          onChange={setPassword}
          autocomplete="new-password"
          hint="8 to 256 characters. A few words are better than a few signs."
          error={short ? "At least 8 characters." : undefined}
          testId="setup-password"
        />
        <Problem failure={attempt.failure} testId="entrance-failure" />
        <Button kind="primary" type="submit" busy={attempt.busy} disabled={!user.trim() || [...password].length < SHORTEST} testId="setup">
          Make the operator
        </Button>
      </form>
    </Entrance>
  );
}

function Entrance({ title, lead, children }: { title: string; lead: string; children: ComponentChildren }) {
  return (
    <div class="entrance">
      <div class="entrance-top">
        <ThemeSwitch />
      </div>
      <main class="card">
        <img src="/assets/favicon.svg" alt="" width="40" height="40" />
        <h1>{title}</h1>
        <p class="lead">{lead}</p>
        {children}
      </main>
    </div>
  );
}

interface PasswordProps {
  label: string;
  value: string;
  onChange(value: string): void;
  autocomplete: "current-password" | "new-password";
  hint?: string;
  error?: string | undefined;
  testId: string;
}

/** A password that can be looked at. */
export function Password(props: PasswordProps) {
  const [seen, see] = useState(false);
  return (
    <div class="password">
      <TextField {...props} type={seen ? "text" : "password"} maxLength={256} />
      <button type="button" class="reveal" aria-pressed={seen} onClick={() => see(!seen)}>
        {seen ? "Hide" : "Show"}
        <span class="unseen"> the password</span>
      </button>
    </div>
  );
}
