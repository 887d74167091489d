import type { Component } from "svelte";
import { session, type Permission } from "../lib/session.svelte";
import type { Key } from "../lib/words";

/** A page takes the id in its path, if there is one. */
type Load = () => Promise<{ default: Component<any> }>;

interface PageOf {
  path: RegExp;
  /** Whoever lacks it is told so instead. */
  needs?: Permission;
  load: Load;
}

const pages: PageOf[] = [
  { path: /^\/$/, load: () => (session.may("devices.view") ? import("./Overview.svelte") : import("./Account.svelte")) },
  { path: /^\/devices$/, load: () => import("./Devices.svelte") },
  { path: /^\/devices\/([0-9a-f-]{36})$/, load: () => import("./Device.svelte") },
  { path: /^\/enroll$/, needs: "devices.edit", load: () => import("./Enroll.svelte") },

  { path: /^\/policies$/, needs: "policies.view", load: () => import("./Policies.svelte") },
  { path: /^\/policies\/new$/, needs: "policies.edit", load: () => import("./Policy.svelte") },
  { path: /^\/policies\/([0-9a-f-]{36})$/, needs: "policies.view", load: () => import("./Policy.svelte") },
  { path: /^\/people$/, needs: "users.view", load: () => import("./People.svelte") },
  { path: /^\/people\/([0-9a-f-]{36})$/, needs: "users.view", load: () => import("./Person.svelte") },
  { path: /^\/people\/groups(?:\/([0-9a-f-]{36}))?$/, needs: "users.view", load: () => import("./Groups.svelte") },
  { path: /^\/people\/roles$/, needs: "users.view", load: () => import("./Roles.svelte") },
  { path: /^\/people\/import$/, needs: "users.edit", load: () => import("./Import.svelte") },

  { path: /^\/audit-log$/, needs: "audit.view", load: () => import("./AuditLog.svelte") },
  { path: /^\/webhooks$/, needs: "webhooks.view", load: () => import("./Webhooks.svelte") },
  { path: /^\/webhooks\/([0-9a-f-]{36})$/, needs: "webhooks.view", load: () => import("./Webhook.svelte") },
  { path: /^\/api-keys$/, needs: "api_keys.edit", load: () => import("./ApiKeys.svelte") },
  { path: /^\/account$/, load: () => import("./Account.svelte") },
  { path: /^\/settings$/, needs: "devices.view", load: () => import("./Settings.svelte") },
  { path: /^\/reference$/, load: () => import("./Reference.svelte") },
];

const forbidden: Load = () => import("./Forbidden.svelte");

interface Opened {
  Page: Awaited<ReturnType<Load>>["default"];
  id: string;
}

/** Loads the page of a path; its component comes together with the id that it is for. */
export function openPage(path: string): Promise<Opened> | undefined {
  for (const page of pages) {
    const match = page.path.exec(path);
    if (!match) continue;
    const allowed = !page.needs || session.may(page.needs);
    return (allowed ? page.load() : forbidden()).then(({ default: Page }) => ({ Page, id: match[1] ?? "" }));
  }
  return undefined;
}

/** What the navigation offers, and to whom. */
export const navigation: { to: string; label: Key; needs?: Permission; icon: string }[] = [
  { to: "/", label: "nav.overview", needs: "devices.view", icon: "M3 3h8v8H3zM13 3h8v5h-8zM13 10h8v11h-8zM3 13h8v8H3z" },
  { to: "/devices", label: "nav.devices", icon: "M3 4h18v12H3zM8 20h8M12 16v4" },
  { to: "/enroll", label: "nav.enroll", needs: "devices.edit", icon: "M12 5v14M5 12h14" },

  { to: "/policies", label: "nav.policies", needs: "policies.view", icon: "M6 3h9l4 4v14H6zM9 11h7M9 15h7" },
  { to: "/people", label: "nav.people", needs: "users.view", icon: "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM2 21c0-4 3-7 7-7s7 3 7 7M16 4a4 4 0 0 1 0 7M18 14c3 1 4 4 4 7" },

  { to: "/audit-log", label: "nav.audit", needs: "audit.view", icon: "M6 3h12v18H6zM9 8h6M9 12h6M9 16h4" },
  { to: "/webhooks", label: "nav.webhooks", needs: "webhooks.view", icon: "M4 12h12M11 6l6 6-6 6M20 4v16" },
  { to: "/api-keys", label: "nav.apikeys", needs: "api_keys.edit", icon: "M8 11a5 5 0 1 0 .1 0M11.5 12.5L21 3M18 6l3 3M15 9l2 2" },
  { to: "/settings", label: "nav.settings", needs: "devices.view", icon: "M4 7h16M4 12h16M4 17h16M9 5v4M15 10v4M7 15v4" },
  { to: "/reference", label: "nav.reference", icon: "M8 6l-6 6 6 6M16 6l6 6-6 6" },
  { to: "/account", label: "nav.account", icon: "M12 4a4 4 0 1 0 .1 0M4 21c0-5 4-7 8-7s8 2 8 7" },
];
