// Policies: a form that says what is wrong where it is wrong, the effect before it is made, and where a setting comes from.
import assert from "node:assert/strict";

export async function policies({ page, step, look, zero, admin, EVIL }) {
  const dialog = page.getByRole("dialog");
  const pick = async (within, label, q, name) => {
    await within.getByLabel(label).getByRole("searchbox").fill(q);
    await within.getByRole("button", { name }).click();
  };
  let path;

  await step("a device gets a name, an owner and tags", async () => {
    await page.goto(`${zero.url}/devices?q=Laptop+28`);
    await page.getByRole("link", { name: "Laptop 28" }).click();
    await page.getByRole("button", { name: "Edit" }).click();
    await pick(dialog, "Owner", "ada", "Ada Lovelace");
    await dialog.getByLabel("Tags").fill("berlin, loan");
    await look("device-edit");
    await dialog.getByRole("button", { name: "Save" }).click();
    await page.getByText("berlin, loan").waitFor();
    await page.getByRole("main").getByRole("link", { name: "Ada Lovelace" }).waitFor();
    path = new URL(page.url()).pathname;
  });

  await step("a lost device is marked as wiped only after its consequences were read", async () => {
    await page.goto(`${zero.url}/devices?q=Laptop+27`);
    await page.getByRole("link", { name: "Laptop 27" }).click();
    await page.getByRole("button", { name: "Wipe" }).click();
    await dialog.getByLabel("The device is lost").check();
    await dialog.getByText("can never confirm").waitFor();
    await dialog.getByLabel("to confirm").fill("Laptop 27");
    await look("device-force");
    await dialog.getByRole("button", { name: "Wipe" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByText("Wiped", { exact: true }).waitFor();
    const { data } = await zero.call("GET", "/devices?q=Laptop+27", admin.token);
    assert.equal(data[0].status, "wiped");
  });

  await step("what contradicts itself in a new policy is said beside the setting", async () => {
    await page.keyboard.press("p");
    await page.getByText("No policy yet").waitFor();
    await look("policies-empty");
    await page.getByRole("link", { name: "New policy" }).first().click();
    await page.getByLabel("Name", { exact: true }).fill(EVIL);
    await page.getByRole("heading", { name: "USB" }).click();
    await page.getByLabel("USB devices").selectOption("no");
    await page.getByLabel("Log only").selectOption("yes");
    await page.getByLabel("Always allowed").first().selectOption("list");
    await page.getByRole("textbox", { name: "Always allowed" }).fill("046d:c52b\n1050:0407");
    await page.getByRole("button", { name: "Create" }).click();
    await page.getByText("what is only noted is not prevented").first().waitFor();
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("aria-invalid")), "true");
    await look("policy-wrong");
    await page.getByLabel("Log only").selectOption("");
    await page.getByRole("button", { name: "Create" }).click();
    await page.getByText("Not assigned to a group or as the default").waitFor();
  });

  await step("the effect is seen before the policy is assigned to a group, and the device says where it comes from", async () => {
    await pick(page, "Groups", "onerror", EVIL);
    await page.getByRole("button", { name: "Preview" }).click();
    await page.getByText("1 / 31").waitFor();
    await look("policy-assign");
    await page.getByRole("button", { name: "Assign", exact: true }).click();
    await page.getByText("Assigned. Devices get it").waitFor();
    await page.getByRole("link", { name: `group ${EVIL}` }).waitFor();
    await page.goto(zero.url + path);
    await page.getByText(`group ${EVIL}`).first().waitFor();
    assert.match(await page.locator("section", { hasText: "Effective policy" }).last().innerText(), /USB devices\s+no/);
    await look("device-policy");
  });

  let id;
  await step("a change is previewed, and not made over what somebody else has changed", async () => {
    await page.keyboard.press("p");
    await page.getByRole("link", { name: EVIL }).click();
    id = new URL(page.url()).pathname.split("/")[2];
    await page.getByRole("heading", { name: "Compliance" }).click();
    await page.getByLabel("Encrypted disk").selectOption("yes");
    await page.getByRole("button", { name: "Preview" }).click();
    await page.getByText("What would change").waitFor();
    await page.getByText("1 / 31").waitFor();
    await look("policy-preview");
    const policy = await zero.call("GET", `/policies/${id}`, admin.token);
    const policy_data = { ...policy.policy_data, dlp: { print_allowed: false } };
    await zero.call("PUT", `/policies/${id}`, admin.token, { name: policy.name, policy_data });
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.getByText("Somebody else has changed this policy").waitFor();
    await look("policy-conflict");
    await page.getByRole("button", { name: "Save mine over theirs" }).click();
    await page.getByText("Saved", { exact: true }).waitFor();
    await page.getByText("Version 3").waitFor();
  });

  await step("every version is kept, and one is brought back", async () => {
    await page.getByRole("link", { name: "Versions" }).click();
    await page.getByText("The first version").waitFor();
    await look("policy-versions");
    await page.getByRole("button", { name: "Roll back to this" }).last().click();
    await dialog.getByText("Devices affected").waitFor();
    await look("policy-rollback");
    await dialog.getByRole("button", { name: "Roll back to this" }).click();
    await page.getByText("Version 4").first().waitFor();
    const { policy_data } = await zero.call("GET", `/policies/${id}`, admin.token);
    assert.deepEqual(policy_data, { usb: { allowed: false, whitelist: ["046d:c52b", "1050:0407"] } });
  });

  await step("inheritance is a tree, and a policy in use is deleted only with another in its place", async () => {
    await zero.call("POST", "/policies", admin.token, { name: "Field laptops", extends: id, policy_data: { usb: { allowed: true } } });
    await page.keyboard.press("p");
    await page.getByText("2 policies").waitFor();
    await look("policies");
    await page.getByRole("link", { name: "Inheritance" }).click();
    await page.getByRole("link", { name: "Field laptops" }).waitFor();
    await look("policies-tree");
    const other = await zero.call("POST", "/policies", admin.token, { name: "Basics", policy_data: {} });
    await page.getByRole("link", { name: EVIL }).click();
    await page.getByRole("button", { name: "Delete policy" }).click();
    await dialog.getByLabel("to confirm").fill(EVIL);
    await dialog.getByRole("button", { name: "Delete policy" }).click();
    await dialog.getByText("this policy is in use").waitFor();
    await look("policy-delete");
    await pick(dialog, "Replacement", "basics", "Basics");
    await dialog.getByRole("button", { name: "Delete policy" }).click();
    await page.getByText("2 policies").waitFor();
    const { data } = await zero.call("GET", "/groups", admin.token);
    assert.equal(data.find(({ name }) => name === EVIL).policy_id, other.id);
  });

  await step("every setting has a German name", async () => {
    await page.evaluate(() => localStorage.setItem("zero.language", "de"));
    await page.goto(`${zero.url}/policies/new`);
    for (const section of ["Netzwerk", "USB", "Speicher", "Container", "Apps", "Konformität"]) {
      await page.getByRole("heading", { name: section, exact: true }).click();
    }
    const names = await page.locator("details label").allInnerTexts();
    assert.ok(names.length >= 35, String(names.length));
    assert.deepEqual(names.filter((name) => /^[a-z_]+\.[a-z_]+$/.test(name)), []);
    await look("policy-de");
    await page.evaluate(() => localStorage.removeItem("zero.language"));
    await page.goto(zero.url);
  });

  await step("a token is listed with its uses, and can be deleted", async () => {
    await page.getByRole("link", { name: "Enrol", exact: true }).click();
    await page.getByText("31 of 100 used").waitFor();
    await page.getByText("Owner, group, policy, tags").click();
    await look("enroll-tokens");
    await page.getByRole("button", { name: "Delete token: Front desk" }).click();
    await dialog.getByRole("button", { name: "Delete token" }).click();
    await page.getByText("No token yet").waitFor();
  });
}
