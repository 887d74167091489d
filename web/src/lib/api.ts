import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "$api";

export type Schemas = components["schemas"];
export type Device = Schemas["DeviceView"];

/** A page of a list. The document numbers these types, so that their names there do not last. */
export interface PageOf<T> {
  data: T[];
  total: number;
  page: number;
  page_size: number;
  total_pages: number;
}

/** What the appliance refused, in its own words. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly details: string,
    readonly requestId: string | undefined,
    /** Seconds after which to try again. */
    readonly retryAfter: number | undefined,
    /** Which fields of the body were refused, and why. */
    readonly fields: readonly { field: string; message: string }[] = [],
  ) {
    super(message);
  }
}

/** The access token: in memory, and nowhere else. */
let token: string | undefined;
let ended: () => void = () => {};

export const hasToken = () => token !== undefined;
export const setToken = (next: string | undefined) => (token = next);
export const onEnded = (callback: () => void) => (ended = callback);

/** Tells the appliance to keep the refresh token in a cookie that no script reads. */
const inCookie = { "X-Zero-Session": "cookie" };

const authorize: Middleware = {
  onRequest({ request }) {
    if (token) request.headers.set("Authorization", `Bearer ${token}`);
    if (new URL(request.url).pathname.startsWith("/api/v1/auth/")) {
      for (const [name, value] of Object.entries(inCookie)) request.headers.set(name, value);
    }
    return request;
  },
};

/** A refused access token is replaced once; other tabs of this browser wait for their turn. */
async function send(request: Request): Promise<Response> {
  const again = request.clone();
  const used = token;
  const response = await fetch(request);
  // What signs in or asks for the password says 401 of its own.
  const ownRefusal = request.method !== "GET" && request.url.includes("/auth/");
  if (response.status !== 401 || !used || ownRefusal) return response;
  if (token === used && !(await refresh())) {
    ended();
    return response;
  }
  again.headers.set("Authorization", `Bearer ${token}`);
  return fetch(again);
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: send });
api.use(authorize);

/** What no generated call is made for, such as streams and files: signed with the token, as it comes. */
export function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const request = new Request(new URL(path, location.origin), init);
  if (token) request.headers.set("Authorization", `Bearer ${token}`);
  return send(request);
}

/**
 * Asks for an access token by the cookie. A refresh token is good once: two tabs that spend the same one at once
 * would end the session, so that they take turns. `keepalive` lets the new cookie arrive when the page is left.
 */
export async function refresh(): Promise<boolean> {
  return await navigator.locks.request("zero-refresh", async () => {
    const init = { method: "POST", body: "{}", keepalive: true };
    const headers = { "Content-Type": "application/json", ...inCookie };
    const response = await fetch("/api/v1/auth/refresh", { ...init, headers });
    token = response.ok ? ((await response.json()) as { token: string }).token : undefined;
    return response.ok;
  });
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The data of an answer, or its refusal as an exception. */
export const need = async <T>(asked: Promise<Answer<T>>): Promise<T> => (await tagged(asked)).data;

/** The data with its ETag, which a change of it names. */
export async function tagged<T>(asked: Promise<Answer<T>>): Promise<{ data: T; etag: string }> {
  const { data, error, response } = await asked.catch(() => {
    throw new Refusal(0, "", "", undefined, undefined);
  });
  if (!response.ok) throw refusal(response, error);
  return { data: data as T, etag: response.headers.get("ETag") ?? "" };
}

/** What the appliance said against a field of what was sent, in one line. */
export function saidOf(error: unknown, field: string): string {
  const fields = error instanceof Refusal ? error.fields : [];
  return fields.filter((one) => one.field === field || one.field.startsWith(`${field}[`)).map(({ message }) => message).join("; ");
}

/** The header of a change that is made only to what was seen. */
export const ifMatch = (etag: string) => ({ "If-Match": etag });

export function refusal(response: Response, error: unknown): Refusal {
  const said = (error ?? {}) as Partial<Schemas["Error"]>;
  const wait = Number(response.headers.get("Retry-After")) || undefined;
  return new Refusal(response.status, said.message ?? response.statusText, said.details ?? "", said.request_id, wait, said.errors);
}
