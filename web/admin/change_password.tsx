import { useState } from "preact/hooks";
import { FormDialog } from "../ui/form_dialog.tsx";
import { say } from "../ui/toast.tsx";
import { Password } from "./entrance.tsx";
import { request } from "./session.ts";

/** The operator's own. */
export function ChangePassword({ close }: { close(): void }) {
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  async function change(): Promise<void> {
    await request("POST", "/me/password", { current, new: next });
    say("Changed. Every other sign-in of yours has ended.");
    close();
  }
  return (
    <FormDialog title="Change my password" close={close} yes="Change it" act={change} ready={current !== "" && [...next].length >= 8}>
      <Password label="The one you have" value={current} onChange={setCurrent} autocomplete="current-password" testId="password-current" />
      <Password label="The new one" hint="8 to 256 characters." value={next} onChange={setNext} autocomplete="new-password" testId="password-new" />
    </FormDialog>
  );
}
