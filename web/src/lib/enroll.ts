import type { platforms } from "./names";

type Platform = (typeof platforms)[number];

/** How a device of that platform enrols by a command; nothing for those that have no shell: they scan the QR code. */
export function enrollCommand(platform: Platform, origin: string, token: string): string | undefined {
  const url = `${origin}/api/v1/devices/enroll`;
  const body = (name: string) => `{"device_name": "${name}", "platform": "${platform}", "agent_version": "1.0.0"}`;
  switch (platform) {
    case "linux":
    case "macos":
      return (
        `curl --cacert ca.pem ${url} \\\n  -H 'Authorization: Bearer ${token}' \\\n  -H 'Content-Type: application/json' \\\n` +
        `  -d '${body(`'"$(hostname)"'`)}'`
      );
    case "windows":
      // curl.exe comes with Windows; PowerShell hands it the body on standard input, whose quotes it leaves alone.
      // A revocation list, for which Windows would ask, is nothing that an authority of one's own has.
      return (
        `@{ device_name = $env:COMPUTERNAME; platform = 'windows'; agent_version = '1.0.0' } | ConvertTo-Json |\n` +
        `  curl.exe --cacert ca.pem --ssl-no-revoke ${url} \`\n  -H 'Authorization: Bearer ${token}' \`\n` +
        `  -H 'Content-Type: application/json' -d '@-'`
      );
    case "android":
    case "ios":
      return undefined;
  }
}
