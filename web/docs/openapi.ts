/** As much of OpenAPI as the server's own description uses. */
export interface Schema {
  $ref?: string;
  type?: string;
  description?: string;
  enum?: string[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
}

export interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  schema: Schema;
}

export interface Operation {
  operationId: string;
  summary: string;
  description?: string;
  tags: string[];
  parameters: Parameter[];
  /** JSON, or a file. */
  requestBody?: { content: { "application/json"?: { schema: Schema }; "application/octet-stream"?: { schema: Schema } } };
  responses: Record<string, { description: string; content?: { "application/json": { schema: Schema } } }>;
  security: Record<string, unknown>[];
}

export interface Description {
  info: { version: string; description: string };
  tags: { name: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

export const nameOf = (schema: Schema): string | undefined => schema.$ref?.split("/").at(-1);

/** What a value is, in a word or two. */
export function kindOf(schema: Schema): string {
  const named = nameOf(schema);
  if (named) return named;
  if (schema.enum) return schema.enum.map((word) => `"${word}"`).join(" | ");
  if (schema.items) return `${kindOf(schema.items)}[]`;
  const several = schema.allOf ?? schema.anyOf ?? schema.oneOf;
  if (several) return several.map(kindOf).join(" | ");
  return schema.type ?? "any JSON";
}
