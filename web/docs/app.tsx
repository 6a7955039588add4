import { useEffect, useState } from "preact/hooks";
import { ThemeSwitch } from "../ui/theme.tsx";
import { Markdown } from "./markdown.tsx";
import type { Description } from "./openapi.ts";
import { REFERENCE, TEXTS, placeOf } from "./place.ts";
import { Reference } from "./reference.tsx";

type Content = { page: string; text: string } | { page: string; description: Description } | { page: string; failure: string };

export function App() {
  const [place, go] = useState(placeOf(location.hash));
  const [content, show] = useState<Content>();
  const [tries, again] = useState(0);

  useEffect(() => {
    const moved = () => go(placeOf(location.hash));
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);

  useEffect(() => {
    const gone = new AbortController();
    load(place.page, gone.signal).then(show, (error: unknown) => {
      if (!gone.signal.aborted) show({ page: place.page, failure: String(error) });
    });
    return () => gone.abort();
  }, [place.page, tries]);

  useEffect(() => {
    if (content?.page !== place.page) return;
    const target = place.section && document.getElementById(place.section);
    if (target) target.scrollIntoView();
    else scrollTo(0, 0);
  }, [content, place]);

  const titles: readonly (readonly [string, string])[] = [[REFERENCE, "HTTP API"], ...TEXTS];
  return (
    <>
      <header class="top">
        <div class="top-row">
          <a class="brand" href="/">
            <img src="/assets/favicon.svg" alt="" width="28" height="28" />
            XPUSH
          </a>
          <ThemeSwitch />
        </div>
      </header>
      <div class="page">
        <nav aria-label="Documentation">
          <ul>
            {titles.map(([name, title]) => (
              <li>
                <a href={`#${name}`} aria-current={name === place.page ? "page" : undefined}>
                  {title}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <main class="text" aria-busy={content?.page !== place.page} data-testid="docs-text">
          {content?.page === place.page && <Shown content={content} retry={() => again(tries + 1)} />}
        </main>
      </div>
    </>
  );
}

function Shown({ content, retry }: { content: Content; retry: () => void }) {
  if ("description" in content) return <Reference description={content.description} />;
  if ("text" in content) return <Markdown text={content.text} page={content.page} />;
  return (
    <div role="alert">
      <p>This could not be loaded: {content.failure}</p>
      <button type="button" class="button outline" onClick={retry}>
        Try again
      </button>
    </div>
  );
}

async function load(page: string, signal: AbortSignal): Promise<Content> {
  if (page !== REFERENCE && !TEXTS.some(([name]) => name === page)) throw new Error("there is no such text");
  const response = await fetch(page === REFERENCE ? "/api/v1/openapi.json" : `/docs/${page}.md`, { signal });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return page === REFERENCE ? { page, description: await response.json() } : { page, text: await response.text() };
}
