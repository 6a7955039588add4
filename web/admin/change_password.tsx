import { useState } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { say } from "../ui/toast.tsx";
import { Problem, useAttempt } from "./attempt.tsx";
import { Password } from "./entrance.tsx";
import { request } from "./session.ts";

/** The operator's own. */
export function ChangePassword({ close }: { close(): void }) {
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const attempt = useAttempt(async () => {
    await request("POST", "/me/password", { current, new: next });
    say("Changed. Every other sign-in of yours has ended.");
    close();
  });
  return (
    <Dialog
      title="Change my password"
      onClose={close}
      onSubmit={() => void attempt.begin()}
      actions={
        <>
          <Button kind="quiet" onClick={close}>
            Cancel
          </Button>
          <Button kind="primary" type="submit" busy={attempt.busy} disabled={!current || [...next].length < 8}>
            Change it
          </Button>
        </>
      }
    >
      <Password label="The one you have" value={current} onChange={setCurrent} autocomplete="current-password" testId="password-current" />
      <Password label="The new one" hint="8 to 256 characters." value={next} onChange={setNext} autocomplete="new-password" testId="password-new" />
      <Problem failure={attempt.failure} />
    </Dialog>
  );
}
