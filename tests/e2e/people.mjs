// People: groups as a tree, an invitation, a list that is tried out and then imported, roles.
import assert from "node:assert/strict";

export async function people({ browser, page, step, look, zero, admin, EVIL, PASSWORD }) {
  const dialog = page.getByRole("dialog");
  const pick = async (within, label, q, name) => {
    await within.getByLabel(label).getByRole("searchbox").fill(q);
    await within.getByRole("button", { name }).click();
  };

  await step("groups are made, one within the other, and people put into them", async () => {
    await page.keyboard.press("u");
    await page.getByRole("link", { name: "Groups", exact: true }).click();
    await page.getByText("No group yet").waitFor();
    await look("groups-empty");
    for (const name of [EVIL, "Engineering"]) {
      await page.getByRole("button", { name: "New group" }).click();
      await dialog.getByLabel("Name", { exact: true }).fill(name);
      if (name === "Engineering") {
        await dialog.getByRole("searchbox").first().fill("onerror");
        await dialog.getByRole("button", { name: EVIL }).waitFor();
        for (const key of ["ArrowDown", "Enter"]) await page.keyboard.press(key);
      }
      await dialog.getByRole("button", { name: "Create" }).click();
      await page.getByRole("heading", { name, exact: true }).waitFor();
    }
    await pick(page, "Add members", "ada@", "Ada Lovelace");
    await page.getByRole("button", { name: "Add members" }).click();
    await page.getByRole("button", { name: "Remove Ada Lovelace" }).waitFor();
    await look("group");
  });

  await step("somebody is invited, and the link is shown once", async () => {
    await page.getByRole("link", { name: "Users" }).click();
    await page.getByRole("button", { name: "Invite" }).click();
    await dialog.getByLabel("Name", { exact: true }).fill(EVIL);
    await dialog.getByLabel("E-mail").fill("ada@acme.example");
    await dialog.getByLabel("Role").selectOption("help_desk");
    await pick(dialog, "Groups", "engin", "Engineering");
    await look("people-invite");
    await dialog.getByRole("button", { name: "Invite" }).click();
    await dialog.getByRole("alert").waitFor();
    await dialog.getByLabel("E-mail").fill("eve@acme.example");
    await dialog.getByRole("button", { name: "Invite" }).click();
    const link = await dialog.locator("code").textContent();
    await look("people-invited");
    await dialog.getByRole("button", { name: "Close" }).click();
    await page.getByText("2 people").waitFor();
    await look("people");
    const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-GB" });
    const other = await context.newPage();
    await other.goto(link);
    await other.getByLabel("New password").fill(PASSWORD);
    await other.getByLabel("Repeat the password").fill(PASSWORD);
    await other.locator("form button").click();
    await other.getByRole("status").waitFor();
    await context.close();
    await zero.call("POST", "/auth/login", undefined, { email: "eve@acme.example", password: PASSWORD });
  });

  await step("a list is tried out first, then imported without its broken line", async () => {
    await page.getByRole("link", { name: "Import" }).click();
    const buffer = Buffer.from('name,email,groups\nGrace Hopper,grace@acme.example,"Engineering,Berlin"\nNobody,not-an-address,\n');
    await page.getByLabel("CSV file").setInputFiles({ name: "people.csv", mimeType: "text/csv", buffer });
    await page.getByRole("button", { name: "Check" }).click();
    await page.getByText("Valid lines: 1. Invalid lines: 1.").waitFor();
    const { total } = await zero.call("GET", "/users", admin.token);
    assert.equal(total, 2);
    await look("import-tried");
    await page.getByRole("button", { name: "Import" }).click();
    await page.getByText("Invited: 1. Skipped lines: 1.").waitFor();
    await look("import");
  });

  await step("a person is edited, suspended, given a new password and deleted", async () => {
    await page.getByRole("link", { name: "Users" }).click();
    await page.locator("#search").fill("eve@");
    await page.getByText("1 person").waitFor();
    await page.getByRole("link", { name: EVIL }).click();
    await page.getByRole("button", { name: "Edit" }).click();
    await dialog.getByLabel("Role").selectOption("auditor");
    await dialog.getByRole("button", { name: "Save" }).click();
    await page.getByText("Auditor").first().waitFor();
    await page.getByRole("button", { name: "Suspend" }).click();
    await dialog.getByRole("button", { name: "Suspend" }).click();
    await page.getByRole("button", { name: "Resume" }).click();
    await dialog.getByRole("button", { name: "Resume" }).click();
    await page.getByRole("button", { name: "Suspend" }).waitFor();
    await page.getByRole("button", { name: "Reset password" }).click();
    await dialog.getByRole("button", { name: "Reset password" }).click();
    await dialog.getByText("/reset#").waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
    await page.getByRole("button", { name: "Sign out everywhere" }).click();
    await look("person-revoke");
    await dialog.getByRole("button", { name: "Sign out everywhere" }).click();
    await page.getByText("Sessions ended: 0").waitFor();
    await look("person");
    await page.getByRole("button", { name: "Delete" }).click();
    const confirm = dialog.getByRole("button", { name: "Delete" });
    assert.ok(await confirm.isDisabled());
    await look("person-delete");
    await dialog.getByLabel("to confirm").fill("eve@acme.example");
    await confirm.click();
    await page.getByText("2 people").waitFor();
  });

  await step("a role of one's own is made from the permissions that one has", async () => {
    await page.getByRole("link", { name: "Roles" }).click();
    await page.getByRole("button", { name: "New role" }).click();
    await dialog.getByLabel("Name", { exact: true }).fill(EVIL);
    await dialog.getByLabel("see devices").check();
    await look("role-new");
    await dialog.getByRole("button", { name: "Save" }).click();
    await page.getByRole("button", { name: `Edit: ${EVIL}` }).click();
    await dialog.getByLabel("see people").check();
    await dialog.getByRole("button", { name: "Save" }).click();
    await dialog.waitFor({ state: "detached" });
    const { data } = await zero.call("GET", "/roles", admin.token);
    assert.deepEqual(data.find(({ name }) => name === EVIL).permissions, ["devices.view", "users.view"]);
    await look("roles");
  });
}
