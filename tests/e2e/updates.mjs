// An update as whoever administers the appliance meets it: refused with the reason, followed while it is made, undone, done.
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { start } from "./appliance.mjs";

/** A tar archive of these files, by their names. */
function tar(files) {
  const blocks = Object.entries(files).flatMap(([name, content]) => {
    const header = Buffer.alloc(512);
    header.write(name, 0);
    for (const [at, text] of [[100, "0000644\0"], [108, "0000000\0"], [116, "0000000\0"], [136, "00000000000\0"], [257, "ustar\u000000"]]) header.write(text, at);
    header.write(`${content.length.toString(8).padStart(11, "0")}\0`, 124);
    header.write("        0", 148);
    header.write(`${header.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0")}\0 `, 148);
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const machine = `${{ x64: "x86_64", arm64: "aarch64" }[process.arch]}-linux`;

/** The binary as another version, which does something else first when it is to serve; signed. */
function bundle(binary, schema, version, serving = ":") {
  const script = Buffer.from(`#!/bin/sh\ncase "$1" in\nversion) echo "zero ${version}"; exit 0;;\nserve) ${serving} ;;\nesac\nexec ${binary} "$@"\n`);
  const sha256 = createHash("sha256").update(script).digest("hex");
  const manifest = Buffer.from(JSON.stringify({ format: 1, version, schema, target: machine, sha256, size: script.length }));
  return tar({ "manifest.json": manifest, "manifest.sig": sign(null, manifest, privateKey), zero: script });
}

export async function updates({ binary, owns, browser, step, look, signIn, watch, PASSWORD }) {
  await step("an update is refused with the reason, undone when it does not start, and otherwise done", async () => {
    const key = publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("base64");
    const zero = await start(binary, { ZERO_UPDATE_PUBLIC_KEY: key, ZERO_UPDATE_READY_SECONDS: "20" });
    owns.push(zero.url);
    const email = "ada@acme.example";
    await zero.call("POST", "/setup", undefined, { setup_code: zero.code, organization: "Acme", name: "Ada Lovelace", email, password: PASSWORD, names: [] });
    const { token } = await zero.call("POST", "/auth/login", undefined, { email, password: PASSWORD });
    const { database } = await zero.call("GET", "/system", token);
    const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-GB", viewport: { width: 1440, height: 900 } });
    const page = await context.newPage();
    watch(page);
    page.setDefaultTimeout(40_000);
    await page.goto(zero.url);
    await signIn(page, email, PASSWORD);
    await page.getByRole("link", { name: "Settings" }).click();
    const card = page.locator("section", { has: page.getByRole("heading", { name: "Updates" }) });
    const install = async (buffer) => {
      await page.getByLabel("Update file").setInputFiles({ name: "zero.update", mimeType: "application/octet-stream", buffer });
      await card.getByRole("button", { name: "Install update" }).click();
    };
    await install(Buffer.from("no update at all"));
    await card.getByRole("alert").waitFor();
    await look("update-refused", page);
    await install(bundle(binary, database.schema, "0.8.0", 'echo "a library is missing" >&2; exit 3'));
    await card.getByText("was undone").waitFor();
    await look("update-undone", page);
    await install(bundle(binary, database.schema, "0.9.0", "sleep 2"));
    await card.getByText("0.9.0:").waitFor();
    await look("update-running", page);
    await card.getByText("Version 0.9.0 is running.").waitFor();
    await card.getByText("Updated from").waitFor();
    await look("update-done", page);
    assert.equal((await zero.call("GET", "/system/update", token)).version, "0.9.0");
    await context.close();
    zero.stop();
  });
}
