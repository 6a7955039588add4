import { useEffect, useState } from "preact/hooks";
import { Skeleton } from "../ui/skeleton.tsx";
import { Toasts } from "../ui/toast.tsx";
import { SetUp, SignIn } from "./entrance.tsx";
import { Frame } from "./frame.tsx";
import { go } from "./place.ts";
import { arrive, me } from "./session.ts";

export function App() {
  const [token, setToken] = useState(setUpToken);
  useEffect(() => void arrive(), []);

  function done(): void {
    // The link is void: it is of no use in the browser's history.
    history.replaceState(null, "", "/admin/");
    setToken(undefined);
    // Who is signed in makes an app next; who came by a used link signs in.
    go(...(me.value ? ["apps", "new"] : ["overview"]));
  }

  return (
    <>
      {token !== undefined ? <SetUp token={token} done={done} /> : <Entered />}
      <Toasts />
    </>
  );
}

function Entered() {
  if (me.value === undefined) return <Skeleton what="Your apps" />;
  return me.value ? <Frame operator={{ user: me.value.user, name: me.value.name ?? me.value.user }} /> : <SignIn />;
}

/** What the set-up link has in its fragment, which no browser sends. */
function setUpToken(): string | undefined {
  return location.search === "?setup" ? location.hash.slice(1) : undefined;
}
