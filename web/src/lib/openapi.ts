/** The appliance's own description of its API, as far as the reference shows it. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  enum?: unknown[];
  const?: unknown;
  description?: string;
  format?: string;
  default?: unknown;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: Schema | boolean;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  examples?: unknown[];
}
export interface Parameter {
  name: string;
  in: "path" | "query" | "header";
  required?: boolean;
  description?: string;
  schema?: Schema;
}
type Content = Record<string, { schema?: Schema }>;
interface Answer {
  $ref?: string;
  description?: string;
  content?: Content;
}
export interface Operation {
  method: string;
  path: string;
  tag: string;
  summary?: string;
  description?: string;
  parameters: Parameter[];
  requestBody?: { required?: boolean; content: Content };
  responses: Record<string, Answer>;
  security?: unknown[];
  "x-permission"?: string;
}
export interface Document {
  info: { title: string; version: string; description?: string };
  paths: Record<string, Record<string, Omit<Operation, "method" | "path" | "tag"> & { tags?: string[] }>>;
  components: { schemas: Record<string, Schema>; responses?: Record<string, Answer> };
}

export function operationsOf(document: Document): Operation[] {
  const shared = (answer: Answer) => document.components.responses?.[answer.$ref?.split("/").at(-1) ?? ""] ?? answer;
  return Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({
      ...operation, method: method.toUpperCase(), path, tag: operation.tags?.[0] ?? "", parameters: operation.parameters ?? [],
      responses: Object.fromEntries(Object.entries(operation.responses).map(([status, answer]) => [status, shared(answer)])),
    })),
  );
}

/** What a schema allows beside its type, such as "1..100". */
export function bounds(schema: Schema): string {
  const { format, pattern, minimum, maximum, minLength, maxLength, minItems, maxItems } = schema;
  const range = (unit: string, least?: number, most?: number) =>
    least === undefined && most === undefined ? [] : [`${least ?? ""}..${most ?? ""}${unit}`];
  const numeric = format && /^u?int|double|float/.test(format);
  return [
    ...(format && !numeric ? [format] : []), ...range("", minimum || undefined, maximum), ...range(" characters", minLength, maxLength),
    ...range(" items", minItems, maxItems), ...(pattern ? [`/${pattern}/`] : []),
    ...(schema.default !== undefined && schema.default !== null ? [`default ${JSON.stringify(schema.default)}`] : []),
  ].join(", ");
}

export class Reader {
  constructor(private readonly schemas: Record<string, Schema>) {}

  private resolve(schema: Schema): Schema {
    const name = schema.$ref?.split("/").at(-1);
    return name ? (this.schemas[name] ?? {}) : schema;
  }

  /** The type in one or more lines, as TypeScript would write it, with what is said about each member. */
  shape(given: Schema, indent = "", within: Schema[] = []): string {
    const schema = this.resolve(given);
    if (within.includes(schema)) return given.$ref?.split("/").at(-1) ?? "…";
    const inside = [...within, schema];
    const choices = schema.anyOf ?? schema.oneOf;
    if (choices) return [...new Set(choices.map((one) => this.shape(one, indent, inside)))].join(" | ");
    if (schema.allOf) return schema.allOf.map((one) => this.shape(one, indent, inside)).join(" & ");
    if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    const types = [schema.type ?? "any"].flat();
    const text = types.map((type) => {
      if (type === "array") return `${this.grouped(this.shape(schema.items ?? {}, indent, inside))}[]`;
      return type === "object" ? this.members(schema, indent, inside) : type;
    });
    return text.join(" | ");
  }

  private grouped = (text: string) => (text.includes(" | ") && !text.startsWith("{") ? `(${text})` : text);

  private members(schema: Schema, indent: string, within: Schema[]): string {
    const deeper = `${indent}  `;
    const members = Object.entries(schema.properties ?? {});
    if (typeof schema.additionalProperties === "object") {
      return `{ [name]: ${this.shape(schema.additionalProperties, indent, within)} }`;
    }
    if (!members.length) return "object";
    const lines = members.map(([name, member]) => {
      const optional = schema.required?.includes(name) ? "" : "?";
      const about = [bounds({ ...this.resolve(member), ...member }), (member.description ?? "").split("\n")[0]].filter(Boolean).join(" · ");
      return `${deeper}${name}${optional}: ${this.shape(member, deeper, within)}${about && `  // ${about}`}`;
    });
    return `{\n${lines.join("\n")}\n${indent}}`;
  }

  /** A value that the schema allows; `required` leaves the rest out. */
  example(given: Schema, required = false, within: Schema[] = []): unknown {
    const schema = this.resolve(given);
    if (within.includes(schema)) return null;
    const inside = [...within, schema];
    if (schema.examples?.length) return schema.examples[0];
    if (schema.default !== undefined) return schema.default;
    if (schema.const !== undefined) return schema.const;
    if (schema.enum) return schema.enum[0];
    const choices = schema.anyOf ?? schema.oneOf;
    if (choices?.[0]) return this.example(choices[0], required, inside);
    if (schema.allOf) return Object.assign({}, ...schema.allOf.map((one) => this.example(one, required, inside)));
    const type = [schema.type ?? "null"].flat()[0];
    if (type === "array") return schema.items && !required ? [this.example(schema.items, required, inside)] : [];
    if (type === "object") {
      const members = Object.entries(schema.properties ?? {}).filter(([name]) => !required || schema.required?.includes(name));
      return Object.fromEntries(members.map(([name, member]) => [name, this.example(member, required, inside)]));
    }
    if (type === "string") return this.text(schema);
    if (type === "integer" || type === "number") return schema.minimum ?? 0;
    return type === "boolean" ? false : null;
  }

  private text({ format, pattern }: Schema): string {
    const known: Record<string, string> = {
      uuid: "550e8400-e29b-41d4-a716-446655440000", "date-time": "2026-02-12T10:30:00Z", ipv4: "10.100.0.15", ip: "192.0.2.7",
    };
    return known[format ?? ""] ?? (pattern?.includes("0-9a-f") ? "00ff" : "text");
  }
}
