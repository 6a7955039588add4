import type { ComponentChildren, InputHTMLAttributes } from "preact";
import { useId } from "preact/hooks";
import { Icon } from "./icon.tsx";
import { Switch } from "./switch.tsx";

interface About {
  label: string;
  hint?: ComponentChildren;
  /** What is wrong with the value. */
  error?: string | undefined;
}

export interface TextFieldProps extends About, Omit<InputHTMLAttributes, "label" | "value" | "onChange" | "size"> {
  value: string;
  onChange(value: string): void;
  /** Several lines. */
  rows?: number;
  mono?: boolean;
  testId?: string;
}

/** A field for words, with its name above and what to know of it below. */
export function TextField({ label, hint, error, value, onChange, rows, mono, testId, ...rest }: TextFieldProps) {
  const id = useId();
  const attributes = {
    ...rest,
    id,
    class: `field${mono ? " mono" : ""}`,
    value,
    "aria-invalid": error ? true : undefined,
    "aria-describedby": hint || error ? `${id}-about` : undefined,
    "data-testid": testId,
    onInput: (event: { currentTarget: { value: string } }) => onChange(event.currentTarget.value),
  };
  return (
    <div class="form-field">
      <label for={id}>{label}</label>
      {rows ? <textarea {...(attributes as object)} rows={rows} /> : <input {...(attributes as object)} />}
      <FieldNote id={id} hint={hint} error={error} />
    </div>
  );
}

export interface SelectFieldProps<T extends string> extends About {
  value: T;
  options: readonly (readonly [value: NoInfer<T>, words: string])[];
  onChange(value: NoInfer<T>): void;
  testId?: string;
}

/** One of a few. */
export function SelectField<T extends string>({ label, hint, error, value, options, onChange, testId }: SelectFieldProps<T>) {
  const id = useId();
  return (
    <div class="form-field">
      <label for={id}>{label}</label>
      <span class="select">
        <select
          id={id}
          class="field"
          value={value}
          aria-describedby={hint || error ? `${id}-about` : undefined}
          data-testid={testId}
          onChange={(event) => onChange(event.currentTarget.value as T)}
        >
          {options.map(([key, words]) => (
            <option key={key} value={key}>
              {words}
            </option>
          ))}
        </select>
        <Icon name="chevronDown" />
      </span>
      <FieldNote id={id} hint={hint} error={error} />
    </div>
  );
}

/** Yes or no, with its name beside it. */
export function SwitchField({ label, hint, on, onChange, testId }: About & { on: boolean; onChange(on: boolean): void; testId?: string }) {
  const id = useId();
  return (
    <div class="switch-field">
      <div>
        <span id={id} class="switch-name">
          {label}
        </span>
        {hint && (
          <p id={`${id}-about`} class="hint">
            {hint}
          </p>
        )}
      </div>
      <Switch on={on} labelledBy={id} {...(hint ? { describedBy: `${id}-about` } : {})} {...(testId ? { testId } : {})} onChange={onChange} />
    </div>
  );
}

/** One of two to four, all of them in sight. */
export function Choice<T extends string>({ label, hint, error, value, options, onChange, testId }: SelectFieldProps<T>) {
  const id = useId();
  return (
    <fieldset class="form-field choice-field">
      <legend>{label}</legend>
      <div class="choice" data-testid={testId}>
        {options.map(([key, words]) => (
          <label key={key}>
            <input type="radio" name={id} value={key} checked={key === value} onChange={() => onChange(key)} />
            <span>{words}</span>
          </label>
        ))}
      </div>
      <FieldNote id={id} hint={hint} error={error} />
    </fieldset>
  );
}

function FieldNote({ id, hint, error }: { id: string; hint: ComponentChildren; error: string | undefined }) {
  if (!hint && !error) return null;
  return (
    <p class={error ? "hint bad" : "hint"} id={`${id}-about`}>
      {error ? (
        <>
          <Icon name="alert" /> {error}
        </>
      ) : (
        hint
      )}
    </p>
  );
}
