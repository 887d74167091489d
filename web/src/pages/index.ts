import type { Component } from "svelte";
import type { Permission } from "../lib/session.svelte";
import type { Key } from "../lib/words";

/** A page takes the id in its path, if there is one. */
type Load = () => Promise<{ default: Component<any> }>;

interface PageOf {
  path: RegExp;
  load: Load;
}

const pages: PageOf[] = [
  { path: /^\/$/, load: () => import("./Overview.svelte") },
  { path: /^\/devices$/, load: () => import("./Devices.svelte") },
  { path: /^\/devices\/([0-9a-f-]{36})$/, load: () => import("./Device.svelte") },
  { path: /^\/enroll$/, load: () => import("./Enroll.svelte") },
];

interface Opened {
  Page: Awaited<ReturnType<Load>>["default"];
  id: string;
}

/** Loads the page of a path; its component comes together with the id that it is for. */
export function openPage(path: string): Promise<Opened> | undefined {
  for (const page of pages) {
    const match = page.path.exec(path);
    if (match) return page.load().then(({ default: Page }) => ({ Page, id: match[1] ?? "" }));
  }
  return undefined;
}

/** What the navigation offers, and to whom. */
export const navigation: { to: string; label: Key; needs?: Permission; icon: string }[] = [
  { to: "/", label: "nav.overview", needs: "devices.view", icon: "M3 3h8v8H3zM13 3h8v5h-8zM13 10h8v11h-8zM3 13h8v8H3z" },
  { to: "/devices", label: "nav.devices", icon: "M3 4h18v12H3zM8 20h8M12 16v4" },
  { to: "/enroll", label: "nav.enroll", needs: "devices.edit", icon: "M12 5v14M5 12h14" },
];
