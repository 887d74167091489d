// What must hold when something goes wrong: a second factor, guessed passwords, a server that goes away, a log that was
// tampered with.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";

/** The code of an authenticator app (RFC 6238), so many steps of 30 seconds from now. */
function totp(secret, ahead = 0) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((letter) => letters.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + ahead));
  const hash = createHmac("sha1", key).update(counter).digest();
  const code = hash.readUInt32BE(hash[19] & 15) & 0x7fffffff;
  return String(code % 1_000_000).padStart(6, "0");
}

export async function proof({ browser, page, step, look, zero, admin, PASSWORD, watch, signIn }) {
  const dialog = page.getByRole("dialog");
  const somebody = async () => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-GB", viewport: { width: 1440, height: 900 } });
    const other = await context.newPage();
    watch(other);
    await other.goto(zero.url);
    return other;
  };
  /** Shows the QR code on the page of one's own account; returns the secret in it. */
  const scan = async (theirs) => {
    await theirs.getByRole("button", { name: "Set up an authenticator app" }).click();
    await theirs.getByLabel("Confirm your password").fill(PASSWORD);
    await theirs.getByRole("button", { name: "Show the QR code" }).click();
    return await theirs.locator("dialog code").textContent();
  };
  const account = (name) => ({ name, email: `${name.toLowerCase()}@acme.example`, role: "user", password: PASSWORD });

  await step("an authenticator app is set up, and signs in together with the password, as does a recovery code", async () => {
    await zero.call("POST", "/users", admin.token, account("Totp"));
    const hers = await somebody();
    const its = (name) => hers.getByRole("button", { name, exact: true });
    const out = async () => {
      await hers.getByText("Totp").first().click();
      await hers.locator("header").getByRole("button", { name: "Sign out" }).click();
    };
    await signIn(hers, "totp@acme.example", PASSWORD);
    const secret = await scan(hers);
    await hers.getByLabel("Code from your authenticator app").fill("000000");
    await its("Confirm").click();
    await hers.getByRole("alert").waitFor();
    await hers.getByLabel("Code from your authenticator app").fill(totp(secret));
    await its("Confirm").click();
    await its("I have saved them").waitFor();
    const codes = (await hers.locator("dialog pre").textContent()).trim().split("\n");
    assert.ok(codes.length >= 8, String(codes.length));
    await look("factor-codes", hers);
    await its("I have saved them").click();
    await hers.getByText("Your account is protected by an authenticator app").waitFor();
    await out();
    await signIn(hers, "totp@acme.example", PASSWORD);
    await hers.getByLabel("Code from your authenticator app").waitFor();
    await look("sign-in-code", hers);
    // A code is good once: the one that set it up is spent.
    await hers.getByLabel("Code from your authenticator app").fill(totp(secret, 1));
    await its("Sign in").click();
    await hers.getByText("Your account is protected by an authenticator app").waitFor();
    await out();
    for (const fails of [false, true]) {
      await signIn(hers, "totp@acme.example", PASSWORD);
      await its("Use a recovery code instead").click();
      await hers.getByLabel("Recovery code").fill(codes[0]);
      await its("Sign in").click();
      if (fails) break;
      await hers.getByText("Your account is protected by an authenticator app").waitFor();
      await out();
    }
    await hers.getByRole("alert").waitFor();
    await hers.context().close();
  });

  await step("a second factor is required of everybody by somebody who has one, and who confirms it", async () => {
    await zero.call("POST", "/users", admin.token, { ...account("Mia"), role: "admin" });
    const hers = await somebody();
    const its = (name) => hers.getByRole("button", { name, exact: true });
    const required = hers.getByLabel("Require a second factor for everyone");
    await signIn(hers, "mia@acme.example", PASSWORD);
    await hers.getByRole("heading", { name: "Overview" }).waitFor();
    await hers.goto(`${zero.url}/settings`);
    await hers.getByText("Set up a second factor for yourself first").waitFor();
    assert.ok(await required.isDisabled());
    await hers.goto(`${zero.url}/account`);
    const secret = await scan(hers);
    await hers.getByLabel("Code from your authenticator app").fill(totp(secret));
    await its("Confirm").click();
    await its("I have saved them").click();
    await hers.goto(`${zero.url}/settings`);
    await required.check();
    await its("Save").first().click();
    await hers.getByText("A second factor is required provisionally").waitFor();
    await look("settings-factor", hers);
    await its("Keep requiring it").click();
    await hers.getByText("A second factor is required from now on").waitFor();
    const organization = await zero.call("GET", "/organization", admin.token);
    assert.deepEqual([organization.settings.require_mfa, organization.provisional], [true, null]);
    await required.uncheck();
    await its("Save").first().click();
    await hers.getByText("Saved", { exact: true }).waitFor();
    assert.equal((await zero.call("GET", "/organization", admin.token)).settings.require_mfa, false);
    await hers.context().close();
  });

  await step("whoever guesses passwords is locked out, and told for how long", async () => {
    await zero.call("POST", "/users", admin.token, account("Lou"));
    const his = await somebody();
    for (let n = 0; n < 5; n++) {
      await signIn(his, "lou@acme.example", `guess ${n}`);
      await his.getByRole("alert").getByText("The e-mail or the password is wrong").waitFor();
    }
    await signIn(his, "lou@acme.example", PASSWORD);
    await his.getByRole("alert").getByText(/Try again in 1[45] min/).waitFor();
    await look("sign-in-locked", his);
    await his.context().close();
  });

  await step("a changed policy is not left by mistake", async () => {
    await page.goto(`${zero.url}/policies`);
    await page.getByRole("link", { name: "New policy" }).first().click();
    await page.getByLabel("Name", { exact: true }).fill("Half done");
    await page.getByRole("link", { name: "Devices", exact: true }).click();
    await dialog.getByText("not saved yet").waitFor();
    await look("policy-leave");
    await dialog.getByRole("button", { name: "Cancel" }).click();
    assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Half done");
    assert.match(page.url(), /policies\/new$/);
    await page.evaluate(() => history.back());
    await dialog.getByText("not saved yet").waitFor();
    await dialog.getByRole("button", { name: "Leave" }).click();
    await dialog.waitFor({ state: "detached" });
  });

  await step("a server that was away is found again, and a page that waited misses nothing", async () => {
    const policy = await zero.call("POST", "/policies", admin.token, { name: "Tampered with", policy_data: {} });
    await zero.call("DELETE", `/policies/${policy.id}`, admin.token);
    await page.goto(`${zero.url}/audit-log`);
    await page.getByText("Live", { exact: true }).waitFor();
    await zero.pause();
    await page.getByText("Connection lost, trying again").waitFor();
    await look("connection-lost");
    const count = zero.tamper("Tampered with", "Tampered wish");
    assert.ok(count > 0);
    await zero.resume();
    await zero.call("POST", "/auth/login", undefined, { email: "ada@acme.example", password: PASSWORD });
    await page.getByText("Live", { exact: true }).waitFor({ timeout: 40_000 });
    await page.getByRole("button", { name: /new entr/ }).click();
    await page.getByText("Tampered wish").first().waitFor();
  });

  await step("a log that was tampered with says where", async () => {
    await page.getByRole("button", { name: "Verify" }).click();
    await dialog.getByText(/The chain breaks at entry/).waitFor();
    await look("audit-broken");
    await dialog.getByRole("button", { name: "Close" }).click();
  });
}
