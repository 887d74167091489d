// What an administrator keeps and people have of their own: audit log, webhooks, API keys, settings, the API, accounts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

/** Fails the first delivery, takes the others. */
async function receiver() {
  const heard = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      heard.push({ headers: request.headers, body: JSON.parse(body) });
      response.writeHead(heard.length === 1 ? 500 : 200).end("<b>heard</b>");
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { heard, url: `http://127.0.0.1:${server.address().port}/hook`, stop: () => server.close() };
}

export async function administration({ page, browser, zero, admin, step, look, EVIL: evil, PASSWORD: password, watch }) {
  const main = page.locator("main");
  const dialog = page.getByRole("dialog");
  const button = (name, where = page) => where.getByRole("button", { name, exact: true });
  const open = (path) => page.goto(zero.url + path);
  const downloaded = async (click) => {
    const [file] = await Promise.all([page.waitForEvent("download"), click()]);
    return { name: file.suggestedFilename(), text: readFileSync(await file.path(), "utf8") };
  };

  await step("the audit log is filtered, says what an entry holds, and the address keeps the view", async () => {
    await open("/audit-log");
    await main.locator("details summary").first().waitFor();
    await look("audit-log");
    await page.getByLabel("Action", { exact: true }).fill("device.wipe");
    await page.keyboard.press("Enter");
    await page.waitForURL(/action=device\.wipe/);
    await main.locator("details summary", { hasText: evil }).first().click();
    await main.getByText("Request ID").waitFor();
    await look("audit-entry");
    await button("Only this object").click();
    await page.waitForURL(/resource_id=/);
    await page.reload();
    await main.getByText(evil).first().waitFor();
  });

  await step("a new entry is announced, and shown on demand", async () => {
    await open("/audit-log?action=api_key.");
    await page.getByText("No entry matches").waitFor();
    await look("audit-none");
    const key = { name: "Night shift", permissions: ["devices.view"] };
    const { id } = await zero.call("POST", "/api-keys", admin.token, key);
    await page.getByRole("button", { name: /new entr/ }).click();
    await main.getByText("Night shift").waitFor();
    await zero.call("DELETE", `/api-keys/${id}`, admin.token);
  });

  await step("the log is exported as it is filtered, and verified in words", async () => {
    await open("/audit-log?action=device.enroll");
    await button("Export").click();
    await page.getByLabel("Format").selectOption("ndjson");
    await look("audit-export");
    const { name, text } = await downloaded(() => button("Download").click());
    assert.match(name, /^zero-audit-.*\.ndjson$/);
    const actions = text.trim().split("\n").map((line) => JSON.parse(line).action);
    assert.deepEqual([actions.length, new Set(actions)], [31, new Set(["device.enroll"])]);
    await button("Close").click();
    await button("Verify").click();
    await dialog.getByText("The chain is unbroken").waitFor();
    await look("audit-verify");
    const checkpoint = JSON.parse((await downloaded(() => button("Create checkpoint").click())).text);
    assert.match(checkpoint.signature, /^[0-9a-f]+$/);
    assert.match((await downloaded(() => button("Public key").click())).text, /BEGIN PUBLIC KEY/);
    await button("Close").click();
  });

  await step("a webhook is made, its secret shown once, tested, and what was answered is seen", async () => {
    const there = await receiver();
    await page.getByRole("link", { name: "Webhooks" }).click();
    await page.getByText("No webhook yet").waitFor();
    await look("webhooks-none");
    await button("New webhook", main).first().click();
    await page.getByLabel("URL").fill("https://169.254.169.254/");
    await button("Save").click();
    await dialog.getByRole("alert").waitFor();
    await look("webhook-new");
    await page.getByLabel("URL").fill(there.url);
    await dialog.locator('input[value="*"]').uncheck();
    await dialog.locator('input[value="device.*"]').check();
    assert.ok(await dialog.locator('input[value="device.wiped"]').isDisabled());
    await button("Save").click();
    await dialog.getByText("shown only once").waitFor();
    await look("webhook-secret");
    await button("I have saved it").click();
    await page.getByText("Nothing was sent yet.").waitFor();
    await look("webhook-empty");
    await button("Send a test").click();
    await main.getByText("webhook.test").first().click();
    await main.getByText("<b>heard</b>").first().waitFor();
    await look("webhook");
    await button("Send again").click();
    await main.locator("summary", { hasText: "Delivered" }).first().waitFor({ timeout: 20_000 });
    assert.equal(there.heard[1].headers["x-zero-event"], "webhook.test");
    await button("New secret").click();
    await button("New secret", dialog).click();
    await dialog.getByText("shown only once").waitFor();
    await button("I have saved it").click();
    await page.getByText("The old secret also signs until").waitFor();
    await open("/webhooks");
    await main.getByRole("link", { name: there.url }).waitFor();
    await look("webhooks");
    await main.getByRole("link", { name: there.url }).click();
    await button("Delete").click();
    await button("Delete", dialog).click();
    await page.getByText("No webhook yet").waitFor();
    there.stop();
  });

  await step("an API key is shown once, works, and ends when it is revoked", async () => {
    await page.getByRole("link", { name: "API keys" }).click();
    await page.getByText("No API key yet").waitFor();
    await look("api-keys-none");
    await button("New API key", main).first().click();
    await page.getByLabel("Name").fill("Inventory");
    await dialog.getByText("devices.view").click();
    await look("api-key-new");
    await button("Create key").click();
    const key = await dialog.locator(".secret code").textContent();
    await look("api-key-secret");
    assert.equal((await zero.call("GET", "/devices?page_size=1", key)).total, 31);
    await button("I have saved it").click();
    await look("api-keys");
    await button("Revoke").click();
    await button("Revoke", dialog).click();
    await page.getByText("No API key yet").waitFor();
    await assert.rejects(zero.call("GET", "/devices", key), /401/);
  });

  await step("settings are kept, an organization is founded, and the certificate can be trusted", async () => {
    await page.getByRole("link", { name: "Settings" }).click();
    await page.getByText("update-ca-certificates").waitFor();
    await look("settings");
    await button("Back up now").click();
    await main.getByText("records were restored and counted").waitFor({ timeout: 30_000 });
    await look("settings-backup");
    await page.getByLabel("Name", { exact: true }).first().fill("Acme & Sons");
    await button("Save", main).click();
    await page.getByText("Saved").waitFor();
    assert.match((await downloaded(() => page.getByRole("link", { name: "PEM" }).click())).text, /BEGIN CERTIFICATE/);
    await button("New organization").click();
    await dialog.getByLabel("Name", { exact: true }).fill("Beta");
    await dialog.getByLabel("First administrator").fill("Bob");
    await dialog.getByLabel("E-mail of the administrator").fill("bob@beta.example");
    await look("organization-new");
    await button("Save", dialog).click();
    await dialog.getByText("/invite#").waitFor();
    await look("organization-invited");
    await button("Close").click();
    await page.getByRole("cell", { name: "Beta" }).waitFor();
  });

  await step("the API describes itself, is tried out, and asks before it changes anything", async () => {
    await page.getByRole("link", { name: "API", exact: true }).click();
    await main.getByText("/api/v1/devices/enroll").waitFor();
    await look("reference");
    await page.keyboard.press("/");
    await page.keyboard.type("post /groups");
    await page.waitForURL(/q=post/);
    await main.locator("summary", { hasText: "/api/v1/groups" }).first().click();
    await page.getByLabel("Request body").fill(JSON.stringify({ name: "Day shift" }));
    await look("reference-operation");
    await button("Send").click();
    await dialog.getByText("This changes real data").waitFor();
    await look("reference-confirm");
    await button("Send", dialog).click();
    await main.getByText("201").last().waitFor();
    await main.locator("pre", { hasText: '"Day shift"' }).last().waitFor();
  });

  await step("a person chooses a password by the link, and lands on their own account", async () => {
    const new_user = { name: evil, email: "hedy@acme.example", role: "user" };
    const { id, invitation } = await zero.call("POST", "/users", admin.token, new_user);
    const { token } = await zero.call("POST", "/enrollment-tokens", admin.token, { name: "hers", user_id: id });
    const device = { device_name: "Her phone", platform: "ios", agent_version: "1.0.0" };
    await zero.call("POST", "/devices/enroll", token, device);
    const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-GB", viewport: { width: 1440, height: 900 } });
    const hers = await context.newPage();
    watch(hers);
    const its = (name, where = hers) => where.getByRole("button", { name, exact: true });
    await hers.goto(`${zero.url}/invite#${invitation.token}`);
    await hers.getByText("Welcome").waitFor();
    assert.ok(!hers.url().includes(invitation.token));
    await look("invite", hers);
    await hers.getByLabel("New password").fill(`${password} 2`);
    await hers.getByLabel("Repeat the password").fill(`${password} 2`);
    await its("Set password").click();
    await its("Sign in").click();
    await its("Forgot your password?").click();
    await look("forgot", hers);
    await its("Back").click();
    await hers.getByLabel("E-mail").fill("hedy@acme.example");
    await hers.getByLabel("Password").fill(`${password} 2`);
    await its("Sign in").click();
    await hers.getByRole("link", { name: "Her phone" }).waitFor();
    assert.equal(await hers.getByRole("link", { name: "Audit log" }).count(), 0);
    const elsewhere = await zero.call("POST", "/auth/login", undefined, { email: "hedy@acme.example", password: `${password} 2` });
    await hers.reload();
    await its("End session").click();
    await look("account-session", hers);
    await its("Cancel", hers.getByRole("dialog")).click();
    await zero.call("GET", "/auth/me", elsewhere.token);
    await its("End session").click();
    await its("End session", hers.getByRole("dialog")).click();
    await hers.getByRole("dialog").waitFor({ state: "detached" });
    await its("End session").waitFor({ state: "detached" });
    await assert.rejects(zero.call("GET", "/auth/me", elsewhere.token), /401/);
    await look("account", hers);
    await its("Lock").click();
    await its("Lock", hers.getByRole("dialog")).click();
    await hers.getByText("Lock: waiting for Her phone").waitFor();
    await its("Set up an authenticator app").click();
    await hers.getByLabel("Confirm your password").fill(`${password} 2`);
    await its("Show the QR code").click();
    await hers.getByAltText("QR").waitFor();
    await look("account-factor", hers);
    await its("Cancel").click();
    const [file] = await Promise.all([hers.waitForEvent("download"), its("Export").click()]);
    assert.equal(JSON.parse(readFileSync(await file.path(), "utf8")).profile.email, "hedy@acme.example");
    await its("Restrict processing").click();
    await its("Restrict processing", hers.getByRole("dialog")).click();
    await hers.getByText("The processing of your data is restricted.").waitFor();
    await its("Delete my account").click();
    const gone = its("Delete my account", hers.getByRole("dialog"));
    assert.ok(await gone.isDisabled());
    await hers.getByLabel("to confirm").fill("hedy@acme.example");
    await look("account-delete", hers);
    await gone.click();
    await hers.getByText("Your account is deleted").waitFor();
    await its("Close").click();
    await hers.getByRole("button", { name: "Sign in" }).waitFor();
    await context.close();
  });
}
