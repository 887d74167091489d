// Every page, opened by every built-in role: it shows what the role may see, offers what it may do, and says so where it
// may do nothing.
import assert from "node:assert/strict";

/** The paths, and which roles may open them; a page that anybody may open names none. */
export const PAGES = [
  ["/"],
  ["/devices"],
  ["/devices/{device}"],
  ["/enroll", "super_admin admin"],
  ["/policies", "super_admin admin auditor"],
  ["/policies?view=tree", "super_admin admin auditor"],
  ["/policies/new", "super_admin admin"],
  ["/policies/{policy}", "super_admin admin auditor"],
  ["/policies/{policy}?tab=assign", "super_admin admin auditor"],
  ["/policies/{policy}?tab=versions", "super_admin admin auditor"],
  ["/people", "super_admin admin auditor help_desk"],
  ["/people/{user}", "super_admin admin auditor help_desk"],
  ["/people/groups", "super_admin admin auditor help_desk"],
  ["/people/groups/{group}", "super_admin admin auditor help_desk"],
  ["/people/roles", "super_admin admin auditor help_desk"],
  ["/people/import", "super_admin admin"],
  ["/audit-log", "super_admin admin auditor"],
  ["/webhooks", "super_admin admin auditor"],
  ["/webhooks/{webhook}", "super_admin admin auditor"],
  ["/api-keys", "super_admin admin"],
  ["/settings", "super_admin admin auditor help_desk"],
  ["/reference"],
  ["/account"],
  ["/trust"],
  ["/no/such/page"],
];

/** What changes something, and to whom it is offered anywhere at all. */
const OFFERS = {
  "Enrol devices": "super_admin admin",
  "New policy": "super_admin admin",
  "Delete policy": "super_admin admin",
  "Invite": "super_admin admin",
  "New group": "super_admin admin",
  "New role": "super_admin admin",
  "Suspend": "super_admin admin help_desk",
  "Reset password": "super_admin admin help_desk",
  "Wipe": "super_admin admin user",
  "Lock": "super_admin admin help_desk user",
  "New webhook": "super_admin admin",
  "Send a test": "super_admin admin",
  "New API key": "super_admin admin",
  "New organization": "super_admin",
  "Back up now": "super_admin",
  "Export": "super_admin admin auditor help_desk user",
};

const everybody = ["super_admin", "admin", "auditor", "help_desk", "user"];

/** A path of `PAGES` with the ids of what there is. */
export const pathOf = (pattern, opened) => pattern.replace(/\{(\w+)\}/, (_, name) => opened[name]);

/** Goes to another page as a link does. */
export const visit = (page, path) => page.evaluate((to) => (history.pushState(null, "", to), dispatchEvent(new PopStateEvent("popstate"))), path);

export async function roles({ browser, step, zero, admin, PASSWORD, watch, quiet, inspect, signIn }) {
  const opened = {};
  const may = (roles, role) => !roles || roles.split(" ").includes(role);

  await step("there is something on every page", async () => {
    const made = (path, body) => zero.call("POST", path, admin.token, body);
    const people = {};
    for (const role of everybody.slice(1)) {
      people[role] = await made("/users", { name: role, email: `${role}@acme.example`, role, password: PASSWORD });
    }
    const owner = people.user.id;
    const { token } = await made("/enrollment-tokens", { name: "its", user_id: owner });
    const device = await zero.call("POST", "/devices/enroll", token, { device_name: "Theirs", platform: "linux", agent_version: "1.0.0" });
    const group = await made("/groups", { name: "Everybody else", members: [owner] });
    const policy = await made("/policies", { name: "Seen by all", policy_data: { usb: { allowed: false } } });
    await made(`/policies/${policy.id}/assign`, { group_ids: [group.id] });
    const webhook = await made("/webhooks", { url: "http://127.0.0.1:9/hook", events: ["device.wiped"] });
    Object.assign(opened, { device: device.id, group: group.id, policy: policy.id, webhook: webhook.id, user: owner });
  });

  const walk = async (role) => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-GB", viewport: { width: 1440, height: 900 } });
    const page = await context.newPage();
    const troubles = watch(page);
    await page.goto(zero.url);
    await signIn(page, role === "super_admin" ? "ada@acme.example" : `${role}@acme.example`, PASSWORD);
    await page.getByRole("navigation").first().waitFor();
    const wrong = [];
    const offered = new Set();
    const main = page.getByRole("main");
    for (const [pattern, roles] of PAGES) {
      const path = pathOf(pattern, opened);
      await visit(page, path);
      await quiet(page);
      const refused = (await page.getByText("This page is not for your role").count()) > 0;
      if (refused === may(roles, role)) wrong.push(`${path} is ${refused ? "refused" : "open"}`);
      const alerts = await main.getByRole("alert").allInnerTexts();
      if (alerts.length) wrong.push(`${path} says ${alerts}`);
      for (const name of await main.locator("button, a.button").allInnerTexts()) offered.add(name);
      wrong.push(...(await inspect(page, path)));
    }
    for (const link of await page.locator("header nav a").evaluateAll((links) => links.map((link) => new URL(link.href).pathname))) {
      if (!PAGES.some(([path, roles]) => path === link && may(roles, role))) wrong.push(`the navigation offers ${link}`);
    }
    for (const [name, roles] of Object.entries(OFFERS)) {
      if (offered.has(name) !== may(roles, role)) wrong.push(`${name} is ${offered.has(name) ? "" : "not "}offered`);
    }
    await context.close();
    return [...wrong, ...troubles];
  };

  await step("each role walks through every page", async () => {
    const walks = await Promise.all(everybody.map(async (role) => [role, await walk(role)]));
    assert.deepEqual(Object.fromEntries(walks), Object.fromEntries(everybody.map((role) => [role, []])));
  });
  return opened;
}
