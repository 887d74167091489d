import { all } from "./all";
import { api, need, type Schemas } from "./api";
import { session, type Permission } from "./session.svelte";
import { named as words } from "./settings.svelte";

export type Role = Schemas["RoleView"];

export const permissions = [
  "devices.view", "devices.enroll", "devices.edit", "devices.actions", "devices.delete", "policies.view", "policies.edit",
  "policies.assign", "users.view", "users.edit", "users.support", "roles.edit", "webhooks.view", "webhooks.edit",
  "api_keys.edit", "audit.view", "audit.export", "gdpr.admin", "organization.edit", "organizations.admin", "system.admin",
] as const satisfies readonly Permission[];

export const roles = async () => (await all((page) => need(api.GET("/api/v1/roles", { params: { query: { page, page_size: 100 } } })))).all;

/** Nobody grants what they lack, nor acts on whoever holds more than they do. */
export const grantable = (role: Role | undefined) => role?.permissions.every(session.may) ?? false;

const builtIn: readonly string[] = ["super_admin", "admin", "auditor", "help_desk", "user"];

/** The words for a built-in role; a custom one is called as its maker called it. */
export const named = ({ name, built_in }: Pick<Role, "name" | "built_in">) => (built_in ? words("role", name) : name);

/** The same for a role of which only the name is known: no other may have that of a built-in one. */
export const roleWords = (name: string) => named({ name, built_in: builtIn.includes(name) });
