import { Button } from "../ui/button.tsx";
import type { Pages } from "./pages.ts";

/** The next page of a list, where there is one. */
export function More<T>({ pages, words = "More" }: { pages: Pages<T>; words?: string }) {
  if (!pages.more) return null;
  return (
    <footer class="card-foot">
      <Button small busy={pages.busy} onClick={pages.next}>
        {words}
      </Button>
    </footer>
  );
}
