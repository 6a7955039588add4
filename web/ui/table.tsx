import type { ComponentChildren } from "preact";

export interface Column<T> {
  /** Over it; nothing over what can be done with a row. */
  name: string;
  cell(item: T): ComponentChildren;
  /** `cut`: one line at most. */
  kind?: "number" | "wraps" | "cut" | "actions";
  /** Left out where there is little room. */
  spare?: boolean;
}

export interface TableProps<T> {
  label: string;
  /** The first one names the row. */
  columns: readonly Column<T>[];
  items: readonly T[];
  keyOf(item: T): string;
  /** What is not in force any more. */
  isGone?(item: T): boolean;
  /** Of each row. */
  testId?: string | undefined;
}

const CLASSES = { number: "number", wraps: "wraps", cut: "cut-cell", actions: "actions" } as const;

/** Rows and columns, which scroll to the side by themselves where they are too wide. */
export function Table<T>({ label, columns, items, keyOf, isGone, testId }: TableProps<T>) {
  const classOf = ({ kind, spare }: Column<T>) => [kind && CLASSES[kind], spare && "spare"].filter(Boolean).join(" ") || undefined;
  return (
    <div class="table-frame" tabIndex={0} role="group" aria-label={label}>
      <table class="table">
        <thead>
          <tr>
            {columns.map((column) =>
              column.name ? (
                <th key={column.name} scope="col" class={classOf(column)}>
                  {column.name}
                </th>
              ) : (
                <td key={column.name} class={classOf(column)} />
              ),
            )}
          </tr>
        </thead>
        <tbody>
          {items.map((item) => (
            <tr key={keyOf(item)} class={isGone?.(item) ? "gone" : undefined} data-testid={testId}>
              {columns.map((column, index) =>
                index === 0 ? (
                  <th key={column.name} scope="row" class={classOf(column)}>
                    {column.cell(item)}
                  </th>
                ) : (
                  <td key={column.name} class={classOf(column)}>
                    {column.cell(item)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
