// A change of how the appliance is reached: tried, and kept; and one that nobody keeps.
import assert from "node:assert/strict";

export async function reach({ page, zero, admin, step, look }) {
  const form = page.locator("form", { has: page.getByRole("heading", { name: "Network access" }) });
  const button = (name) => form.getByRole("button", { name, exact: true });
  const proxies = form.getByLabel("Trusted proxies");
  const inForce = () => zero.call("GET", "/system/settings", admin.token);

  await step("a change of how the appliance is reached says what is wrong, holds for now, and is kept by a button", async () => {
    await page.goto(`${zero.url}/settings`);
    await proxies.fill("10.0.0.300");
    await button("Apply provisionally").click();
    await form.locator(".wrong", { hasText: "must be a network" }).waitFor();
    await look("settings-wrong");
    await proxies.fill("10.0.0.1, fd00::/8");
    await button("Apply provisionally").click();
    await form.getByText(/They are undone in \d+ seconds/).waitFor();
    await look("settings-provisional");
    assert.deepEqual((await inForce()).trusted_proxies, ["10.0.0.1/32", "fd00::/8"]);
    await button("Keep these settings").click();
    await form.getByText("The settings are kept.").waitFor();
    const now = await inForce();
    assert.deepEqual([now.trusted_proxies, now.provisional], [["10.0.0.1/32", "fd00::/8"], null]);
  });

  await step("a change that nobody keeps is gone again, and the page says so", async () => {
    await proxies.fill("");
    await button("Apply provisionally").click();
    await form.getByText(/They are undone in \d+ seconds/).waitFor();
    await form.getByText("Nobody confirmed the change in time").waitFor({ timeout: 30_000 });
    await look("settings-back");
    assert.equal(await proxies.inputValue(), "10.0.0.1/32, fd00::/8");
  });
}
