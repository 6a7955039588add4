const TOKEN =
  /(?<comment>(?:^|(?<=\s))(?:#|\/\/).*$)|(?<string>"[^"\n]*"|'[^'\n]*'|`[^`\n]*`)|(?<keyword>(?<![.\w-])(?:import|from|const|let|await|async|def|for|in|if|print)\b(?!-))/gmu;

/** A few lines of code, scrollable by keyboard, with just enough colour to be read at a glance. */
export function Code({ text, label, testId }: { text: string; label: string; testId?: string }) {
  return (
    <pre class="code" tabIndex={0} aria-label={label} data-testid={testId}>
      <code>{[...coloured(text)]}</code>
    </pre>
  );
}

function* coloured(text: string) {
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    const kind = Object.entries(match.groups ?? {}).find(([, value]) => value !== undefined)?.[0];
    yield text.slice(end, match.index);
    yield <span class={kind}>{match[0]}</span>;
    end = match.index + match[0].length;
  }
  yield text.slice(end);
}
