import { api, need, type Schemas } from "./api";
import { t } from "./settings.svelte";
import { en, type Key } from "./words";

/** One setting of a policy, as the API's own schema describes it. */
export interface Setting {
  /** Such as `usb.allowed`. */
  path: string;
  kind: "bool" | "choice" | "list" | "number" | "text";
  choices: string[];
  /** The schema's words for it. */
  description: string;
}

export interface Section {
  name: string;
  settings: Setting[];
}

/** The settings of a policy by their paths. What is not in it, is not set; numbers are kept as they are typed. */
export type Values = Record<string, unknown>;
export type PolicyData = Schemas["PolicyData"];

interface Schema {
  $ref?: string;
  type?: string | string[];
  anyOf?: Schema[];
  enum?: unknown[];
  properties?: Record<string, Schema>;
  description?: string;
}

let loaded: Promise<Section[]> | undefined;

/** Read once from the OpenAPI document that the appliance serves. */
export function sections(): Promise<Section[]> {
  loaded ??= load().catch((error) => {
    loaded = undefined;
    throw error;
  });
  return loaded;
}

async function load(): Promise<Section[]> {
  const answer = await need(api.GET("/api/v1/openapi.json"));
  const { schemas } = (answer as unknown as { components: { schemas: Record<string, Schema> } }).components;
  const resolve = (schema: Schema): Schema => {
    const named = schema.$ref ?? schema.anyOf?.find((one) => one.$ref)?.$ref;
    return named ? (schemas[named.split("/").at(-1)!] ?? {}) : schema;
  };
  const names = Object.entries(schemas.PolicyData?.properties ?? {});
  const found = names.map(([name, schema]) => {
    const settings = Object.entries(resolve(schema).properties ?? {});
    return { name, settings: settings.map(([setting, of]) => settingOf(`${name}.${setting}`, of)).sort(inOrder) };
  });
  return found.sort((a, b) => orderOf(a.settings[0]!) - orderOf(b.settings[0]!));
}

/** In the order of the catalogue; what it does not know comes last. */
const order = Object.keys(en);
const orderOf = ({ path }: Setting) => (order.indexOf(`set.${path}`) + 1 || order.length + 1);
const inOrder = (a: Setting, b: Setting) => orderOf(a) - orderOf(b);

function settingOf(path: string, schema: Schema): Setting {
  const types = [schema.type ?? []].flat();
  const choices = (schema.enum ?? []).filter((one) => typeof one === "string");
  const kind =
    choices.length ? "choice"
    : types.includes("boolean") ? "bool"
    : types.includes("array") ? "list"
    : types.includes("integer") || types.includes("number") ? "number"
    : "text";
  return { path, kind, choices, description: schema.description ?? "" };
}

const worded = (group: string, path: string) => {
  const key = `${group}.${path}`;
  return key in en ? t(key as Key) : undefined;
};

/** What a setting is called; its path when there are no words for it. */
export const settingName = (path: string) => worded("set", path.replace(/^policy_data\./, "")) ?? path;
export const settingHelp = ({ path, description }: Setting) => worded("help", path) ?? description;
export const choiceName = (path: string, choice: string) => worded(`choice.${path.split(".").at(-1)}`, choice) ?? choice;

/** What a switch says: some are about what is allowed. */
export const switchName = (path: string, on: boolean) =>
  /allowed$|_sharing$/.test(path) ? t(on ? "allowed" : "allowed.not") : t(on ? "yes" : "no");

/** A setting's value in words. */
export function valueText(path: string, value: unknown): string {
  if (value === null || value === undefined) return t("policy.unset");
  if (typeof value === "boolean") return switchName(path, value);
  if (Array.isArray(value)) return value.map(String).join(", ") || t("policy.nothing");
  return typeof value === "string" ? choiceName(path.replace(/^policy_data\./, ""), value) : typeof value === "object" ? JSON.stringify(value) : String(value);
}

export function flat(data: PolicyData): Values {
  const values: Values = {};
  for (const [section, settings] of Object.entries(data)) {
    for (const [name, value] of Object.entries(settings ?? {})) {
      if (value !== null) values[`${section}.${name}`] = typeof value === "number" ? String(value) : value;
    }
  }
  return values;
}

/** What is sent. A number that is none is sent as it is: the appliance says what is wrong with it. */
export function nested(values: Values, sections: readonly Section[]): PolicyData {
  const data: Record<string, Record<string, unknown>> = {};
  const kinds = new Map(sections.flatMap(({ settings }) => settings).map(({ path, kind }) => [path, kind]));
  for (const [path, value] of Object.entries(values)) {
    if (value === undefined || value === null || value === "") continue;
    const [section, name] = path.split(".") as [string, string];
    const number = kinds.get(path) === "number" ? Number(String(value).trim().replace(",", ".")) : NaN;
    const lines = Array.isArray(value) ? value.map((line: string) => line.trim()).filter((line) => line) : value;
    (data[section] ??= {})[name] = Number.isNaN(number) ? lines : number;
  }
  return data as PolicyData;
}

export const differences = (before: Values, after: Values) =>
  [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((path) => JSON.stringify(before[path] ?? null) !== JSON.stringify(after[path] ?? null))
    .map((path) => ({ path, before: before[path], after: after[path] }));
