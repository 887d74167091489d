import type { paths } from "$api";

export type DevicePage = paths["/api/v1/devices"]["get"]["responses"]["200"]["content"]["application/json"];
type Query = NonNullable<paths["/api/v1/devices"]["get"]["parameters"]["query"]>;
export type Filter = Omit<Query, "page" | "page_size" | "sort">;
export type Sort = NonNullable<Query["sort"]>;

/** The columns that a person may show, and by what each is sorted. */
export const columns = [
  "device_name", "status", "platform", "compliance", "last_seen", "serial_number", "hostname", "os_version",
  "agent_version", "vpn_ip", "tags", "created_at",
] as const;
export type Column = (typeof columns)[number];
export const sortable: readonly Column[] = ["device_name", "last_seen", "created_at"];
const first: Column[] = ["device_name", "status", "platform", "compliance", "last_seen", "serial_number"];

export function shownColumns(): Column[] {
  const kept = localStorage.getItem("zero.columns")?.split(",") ?? [];
  const known = columns.filter((column) => kept.includes(column));
  return known.length ? known : first;
}

export const keepColumns = (shown: Column[]) => localStorage.setItem("zero.columns", shown.join(","));
