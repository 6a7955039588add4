import { Problem } from "../ui/attempt.tsx";
import { pulseFailure } from "./pulse.ts";

/** Why figures do not move. */
export function PulseProblem() {
  return <Problem failure={pulseFailure.value && new Error(`No figures at the moment: ${pulseFailure.value.message}`)} />;
}
