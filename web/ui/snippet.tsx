import { Code } from "./code.tsx";
import { CopyButton } from "./copy_button.tsx";

export interface SnippetProps {
  /** Where it belongs: a file's name, or "Terminal". */
  name: string;
  text: string;
  /** What is copied, in words. */
  what: string;
  label?: string;
  testId?: string;
  copyTestId?: string;
}

/** Code to take along. */
export function Snippet({ name, text, what, label = name, testId, copyTestId }: SnippetProps) {
  return (
    <div class="snippet">
      <header>
        <span>{name}</span>
        <CopyButton text={text} what={what} {...(copyTestId && { testId: copyTestId })} />
      </header>
      <Code text={text} label={label} {...(testId && { testId })} />
    </div>
  );
}
