// Starts the binary in a folder of its own, and plays devices against its API.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// The appliance's own authority is none that Node knows.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
process.removeAllListeners("warning");

const env = {
  PATH: process.env.PATH,
  ZERO_LIMITS_UNAUTHENTICATED_PER_MINUTE: "100000",
  ZERO_WEBHOOKS_ALLOW_LOOPBACK: "true",
  ZERO_SERVER_CONFIRM_SECONDS: "15",
  // Else the data file's own checksums would find what is tampered with, before the audit log's chain does.
  ZERO_STORE_VERIFY_AT_START_MIB: "0",
};

/** Resolves with the process and what it said, as soon as it says all that is `wanted`. */
function run(binary, data, listen, wanted, more) {
  const child = spawn(binary, ["serve", "--data-dir", data, "--listen", listen], { env: { ...env, ...more } });
  let text = "";
  return new Promise((resolve, reject) => {
    const read = (part) => {
      text += part;
      const found = wanted.map((pattern) => pattern.exec(text)?.[1]);
      if (found.every(Boolean)) resolve({ child, found });
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", () => reject(new Error(`the appliance did not start:\n${text}`)));
    setTimeout(() => reject(new Error(`no word from the appliance:\n${text}`)), 20_000).unref();
  });
}

/** `more` are settings beside those of the story. */
export async function start(binary, more = {}) {
  const folder = mkdtempSync(join(tmpdir(), "zero-e2e-"));
  const data = join(folder, "data");
  const ready = /ready (https:\S+)/;
  let { child, found: [url, code] } = await run(binary, data, "127.0.0.1:0", [ready, /\b([0-9A-Z]{4}(?:-[0-9A-Z]{4})+)\b/], more);

  /** Stops the server as an administrator does. */
  const pause = async () => {
    child.removeAllListeners("exit");
    child.kill();
    await once(child, "exit");
  };
  /** The same server again, at the same address. */
  const resume = async () => void ({ child } = await run(binary, data, `127.0.0.1:${new URL(url).port}`, [ready], more));
  /** Replaces a word in the data file, as whoever owns the machine could. */
  const tamper = (before, after) => {
    const path = join(data, "zero.redb");
    const bytes = readFileSync(path);
    let count = 0;
    for (let at = bytes.indexOf(before); at >= 0; at = bytes.indexOf(before, at)) count += bytes.write(after, at) > 0;
    writeFileSync(path, bytes);
    return count;
  };
  const stop = () => {
    child.removeAllListeners("exit");
    child.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  const call = async (method, path, token, body) => {
    const response = await fetch(`${url}/api/v1${path}`, {
      method,
      headers: { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    const answer = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer}`);
    return answer && JSON.parse(answer);
  };
  return { url, code, call, pause, resume, tamper, stop };
}
