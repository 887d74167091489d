import { api, need } from "./api";

export type Kind = "user" | "device" | "group" | "policy";

/** Something that was chosen by searching. */
export interface Picked {
  id: string;
  name: string;
  note?: string;
}

/** The first few that match. */
export async function find(kind: Kind, q: string): Promise<Picked[]> {
  const params = { query: { q: q || undefined, page_size: 8 } };
  switch (kind) {
    case "user":
      return (await need(api.GET("/api/v1/users", { params }))).data.map(({ id, name, email }) => ({ id, name, note: email }));
    case "device":
      return (await need(api.GET("/api/v1/devices", { params }))).data.map((one) => ({
        id: one.id, name: one.device_name, note: one.serial_number ?? one.hostname ?? undefined,
      }));
    case "group":
      return (await need(api.GET("/api/v1/groups", { params }))).data.map(({ id, name }) => ({ id, name }));
    case "policy":
      return (await need(api.GET("/api/v1/policies", { params }))).data.map(({ id, name }) => ({ id, name }));
  }
}

/** The one with that id, as a list of one; nothing for no id. */
export async function known(kind: Kind, id: string | null | undefined): Promise<Picked[]> {
  if (!id) return [];
  const params = { path: { id } };
  switch (kind) {
    case "user":
      return [{ id, name: (await need(api.GET("/api/v1/users/{id}", { params }))).name }];
    case "device":
      return [{ id, name: (await need(api.GET("/api/v1/devices/{id}", { params }))).device_name }];
    case "group":
      return [{ id, name: (await need(api.GET("/api/v1/groups/{id}", { params }))).name }];
    case "policy":
      return [{ id, name: (await need(api.GET("/api/v1/policies/{id}", { params }))).name }];
  }
}
