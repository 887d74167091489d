// Starts the binary in a folder of its own, and plays devices against its API.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// The appliance's own authority is none that Node knows.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
process.removeAllListeners("warning");

export async function start(binary) {
  const folder = mkdtempSync(join(tmpdir(), "zero-e2e-"));
  const child = spawn(binary, ["serve", "--data-dir", join(folder, "data"), "--listen", "127.0.0.1:0"], {
    env: { PATH: process.env.PATH, ZERO_LIMITS_UNAUTHENTICATED_PER_MINUTE: "100000", ZERO_WEBHOOKS_ALLOW_LOOPBACK: "true", ZERO_SERVER_CONFIRM_SECONDS: "15" },
  });
  let text = "";
  const said = await new Promise((resolve, reject) => {
    const read = (part) => {
      text += part;
      const url = /ready (https:\S+)/.exec(text)?.[1];
      const code = /\b([0-9A-Z]{4}(?:-[0-9A-Z]{4})+)\b/.exec(text)?.[1];
      if (url && code) resolve({ url, code });
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", () => reject(new Error(`the appliance did not start:\n${text}`)));
    setTimeout(() => reject(new Error(`no word from the appliance:\n${text}`)), 20_000).unref();
  });
  const stop = () => {
    child.removeAllListeners("exit");
    child.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  const call = async (method, path, token, body) => {
    const response = await fetch(`${said.url}/api/v1${path}`, {
      method,
      headers: { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    const answer = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer}`);
    return answer && JSON.parse(answer);
  };
  return { ...said, call, stop };
}
