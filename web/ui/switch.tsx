export interface SwitchProps {
  on: boolean;
  labelledBy: string;
  describedBy?: string;
  disabled?: boolean;
  testId?: string;
  onChange(on: boolean): void;
}

/** On or off, at once. */
export function Switch({ on, labelledBy, describedBy, disabled, testId, onChange }: SwitchProps) {
  return (
    <button
      type="button"
      role="switch"
      class="switch"
      aria-checked={on}
      aria-labelledby={labelledBy}
      aria-describedby={describedBy}
      disabled={disabled}
      data-testid={testId}
      onClick={() => onChange(!on)}
    />
  );
}
