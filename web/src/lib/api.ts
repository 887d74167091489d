import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "$api";

export type Schemas = components["schemas"];
export type Device = Schemas["DeviceView"];

/** What the appliance refused, in its own words. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly details: string,
    readonly requestId: string | undefined,
    /** Seconds after which to try again. */
    readonly retryAfter: number | undefined,
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
  if (response.status !== 401 || !used || request.url.includes("/auth/")) return response;
  if (token === used && !(await refresh())) {
    ended();
    return response;
  }
  again.headers.set("Authorization", `Bearer ${token}`);
  return fetch(again);
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: send });
api.use(authorize);

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
export async function need<T>(asked: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await asked;
  } catch {
    throw new Refusal(0, "", "", undefined, undefined);
  }
  const { data, error, response } = answer;
  if (response.ok) return data as T;
  const said = (error ?? {}) as { message?: string; details?: string; request_id?: string };
  const wait = Number(response.headers.get("Retry-After")) || undefined;
  throw new Refusal(response.status, said.message ?? response.statusText, said.details ?? "", said.request_id, wait);
}
