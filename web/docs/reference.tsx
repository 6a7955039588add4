import type { ComponentChildren } from "preact";
import { inline } from "./markdown.tsx";
import { type Description, type Operation, type Schema, kindOf } from "./openapi.ts";
import { REFERENCE } from "./place.ts";

/** Everything that can be asked for over HTTP, as the server itself describes it. */
export function Reference({ description }: { description: Description }) {
  const all = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  return (
    <>
      <h1>HTTP API</h1>
      <p>{inline(description.info.description, REFERENCE)}</p>
      <p>
        All paths are below <code>/api/v1</code>. As a file for other tools: <a href="/api/v1/openapi.json">openapi.json</a>. A tour with examples:{" "}
        <a href="#api">HTTP API: a tour</a>.
      </p>
      {description.tags.map(({ name }) => (
        <section>
          <h2 id={name.replaceAll(" ", "-")}>{name}</h2>
          {all
            .filter(({ operation }) => operation.tags.includes(name))
            .map((one) => (
              <One {...one} />
            ))}
        </section>
      ))}
      <section>
        <h2 id="schemas">Names</h2>
        {Object.entries(description.components.schemas).map(([name, schema]) => (
          <details class="card operation" id={`schema-${name}`}>
            <summary>
              <code>{name}</code>
            </summary>
            <Fields schema={schema} />
          </details>
        ))}
      </section>
    </>
  );
}

function One({ path, method, operation }: { path: string; method: string; operation: Operation }) {
  const content = operation.requestBody?.content;
  const body = content?.["application/json"]?.schema;
  const file = content?.["application/octet-stream"] !== undefined;
  return (
    <details class="card operation" id={operation.operationId} data-testid="operation">
      <summary>
        <span class={`method ${method}`}>{method.toUpperCase()}</span>
        <code>{path}</code>
        <span class="words">{operation.summary}</span>
      </summary>
      {(operation.description ?? "").split("\n\n").map((words) => words && <p>{inline(words, REFERENCE)}</p>)}
      <p class="soft">{who(operation)}</p>
      {operation.parameters.length > 0 && (
        <Table label="Parameters">
          {operation.parameters.map(({ name, in: where, required, schema, description }) => (
            <Row name={name} kind={`${kindOf(schema)}, ${where}`} needed={required === true} words={description ?? schema.description} />
          ))}
        </Table>
      )}
      {body && (
        <>
          <h3>Body</h3>
          <Fields schema={body} />
        </>
      )}
      {file && (
        <>
          <h3>Body</h3>
          <p>{inline("The file as it is, or `multipart/form-data` with the file in it.", REFERENCE)}</p>
        </>
      )}
      <h3>Answers</h3>
      <Table label="Answers">
        {Object.entries(operation.responses).map(([status, { description, content }]) => (
          <tr>
            <th scope="row">{status}</th>
            <td>{content ? kindOf(content["application/json"].schema) : ""}</td>
            <td>
              {description.split("\n\n").map((line) => (
                <p>{inline(line, REFERENCE)}</p>
              ))}
              {Number(status) < 300 && content && <Fields schema={content["application/json"].schema} />}
            </td>
          </tr>
        ))}
      </Table>
    </details>
  );
}

function who({ security }: Operation): string {
  const names = security.flatMap((one) => Object.keys(one));
  if (names.length === 0) return "For everybody.";
  if (names.includes("guest")) return `With a user's token, a guest's secret, ${names.includes("ticket") ? "a ticket, " : ""}or an API key.`;
  return names.includes("key") ? "With an API key, or a token of the role server." : "With a user's token.";
}

function Fields({ schema }: { schema: Schema }) {
  const properties = Object.entries(schema.properties ?? {});
  if (properties.length === 0) return <p class="soft">{[kindOf(schema), schema.description].filter(Boolean).join(": ")}</p>;
  return (
    <Table label="Fields">
      {properties.map(([name, field]) => (
        <Row name={name} kind={kindOf(field)} needed={schema.required?.includes(name) === true} words={field.description ?? field.anyOf?.[0]?.description} />
      ))}
    </Table>
  );
}

function Row({ name, kind, needed, words }: { name: string; kind: string; needed: boolean; words: string | undefined }) {
  return (
    <tr>
      <th scope="row">
        <code>{name}</code>
        {needed && <span class="needed"> needed</span>}
      </th>
      <td>{kind}</td>
      <td>{words && inline(words, REFERENCE)}</td>
    </tr>
  );
}

function Table({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div class="wide" tabIndex={0} role="group" aria-label={label}>
      <table>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
