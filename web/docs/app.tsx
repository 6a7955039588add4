import { useEffect, useState } from "preact/hooks";
import { Top } from "../ui/frame.tsx";
import { Markdown, blocksOf, inline, slug } from "./markdown.tsx";
import { GROUPS, PAGES, hrefOf, placeOf } from "./place.ts";
import { Reference } from "./reference.tsx";
import { SearchField } from "./search_field.tsx";
import { type Content, contentOf } from "./texts.ts";

type Shown = Content | { page: string; failure: string };

export function App() {
  const [place, go] = useState(placeOf(location.hash));
  const [content, show] = useState<Shown>();
  const [tries, again] = useState(0);

  useEffect(() => {
    const moved = () => go(placeOf(location.hash));
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);

  useEffect(() => {
    let wanted = true;
    contentOf(place.page).then(
      (content) => wanted && show(content),
      (error: unknown) => wanted && show({ page: place.page, failure: String(error) }),
    );
    return () => void (wanted = false);
  }, [place.page, tries]);

  useEffect(() => {
    if (content?.page !== place.page) return;
    const target = place.section && document.getElementById(place.section);
    if (target instanceof HTMLDetailsElement) target.open = true;
    if (target) target.scrollIntoView();
    else scrollTo({ top: 0, behavior: "instant" });
  }, [content, place]);

  const title = PAGES.find(([name]) => name === place.page)?.[1];
  useEffect(() => {
    document.title = title ? `${title} · XPUSH` : "XPUSH: documentation";
  }, [title]);

  const ready = content?.page === place.page;
  return (
    <>
      <Top>
        <SearchField />
      </Top>
      <div class="page">
        <Contents page={place.page} title={title ?? "Contents"} />
        <div class="reading">
          <main class="text" aria-busy={!ready} data-testid="docs-text">
            {ready ? <Body content={content} retry={() => again(tries + 1)} /> : <Waiting />}
          </main>
          {ready && !("failure" in content) && <Onwards page={place.page} />}
        </div>
        {ready && "text" in content && <OnThisPage page={content.page} text={content.text} section={place.section} />}
      </div>
    </>
  );
}

/** Beside the text, or on narrow windows folded up above it. */
function Contents({ page, title }: { page: string; title: string }) {
  const [open, fold] = useState(false);
  // Whoever has chosen wants to read.
  useEffect(() => fold(false), [page]);
  return (
    <nav class="contents" aria-label="Documentation">
      <button type="button" class="button outline fold" aria-expanded={open} aria-controls="contents" onClick={() => fold(!open)}>
        <span class="soft">Contents</span>
        {title}
      </button>
      <div id="contents" class={open ? "groups open" : "groups"}>
        {GROUPS.map(([heading, entries]) => (
          <section>
            <h2>{heading}</h2>
            <ul>
              {entries.map(([name, title]) => (
                <li>
                  <a href={hrefOf(name)} aria-current={name === page ? "page" : undefined}>
                    {title}
                  </a>
                </li>
              ))}
            </ul>
          </section>
        ))}
      </div>
    </nav>
  );
}

/** A text's sections; only where there is room for them. */
function OnThisPage({ page, text, section }: { page: string; text: string; section: string | undefined }) {
  const sections = blocksOf(text).flatMap((block) => (block.kind === "heading" && block.level === 2 ? [block.text] : []));
  if (sections.length < 2) return null;
  return (
    <nav class="sections" aria-label="On this page">
      <h2>On this page</h2>
      <ul>
        {sections.map((heading) => (
          <li>
            <a href={hrefOf(page, slug(heading))} aria-current={slug(heading) === section ? "location" : undefined}>
              {inline(heading, page)}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

/** The text before, and the one to read next. */
function Onwards({ page }: { page: string }) {
  const at = PAGES.findIndex(([name]) => name === page);
  if (at < 0) return null;
  const [before, next] = [PAGES[at - 1], PAGES[at + 1]];
  return (
    <nav class="onwards" aria-label="Onwards">
      {before && (
        <a class="card before" href={hrefOf(before[0])} rel="prev">
          <span class="soft">Before</span>
          {before[1]}
        </a>
      )}
      {next && (
        <a class="card next" href={hrefOf(next[0])} rel="next">
          <span class="soft">Next</span>
          {next[1]}
        </a>
      )}
    </nav>
  );
}

function Body({ content, retry }: { content: Shown; retry: () => void }) {
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

function Waiting() {
  return (
    <div class="waiting" aria-hidden="true">
      {[40, 100, 92, 97, 60].map((width) => (
        <div class={`skeleton w${width}`} />
      ))}
    </div>
  );
}
