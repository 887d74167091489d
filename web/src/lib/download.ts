import { ask, Refusal, refusal } from "./api";

/** Hands a file to the browser, which keeps it where it keeps downloads. */
export function save(name: string, content: Blob | string, type = "application/json"): void {
  const url = URL.createObjectURL(typeof content === "string" ? new Blob([content], { type }) : content);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Fetches a file that needs the session's token, and hands it to the browser; says how many bytes have come. */
export async function download(path: string, name: string, progress: (bytes: number) => void = () => {}): Promise<void> {
  const response = await ask(path).catch(() => {
    throw new Refusal(0, "", "", undefined, undefined);
  });
  if (!response.ok) throw refusal(response, await response.json().catch(() => undefined));
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const reader = (response.body as ReadableStream<Uint8Array<ArrayBuffer>>).getReader();
  for (let bytes = 0; ; ) {
    const { value, done } = await reader.read();
    if (done) break;
    parts.push(value);
    progress((bytes += value.length));
  }
  save(name, new Blob(parts, { type: response.headers.get("Content-Type") ?? "" }));
}

/** `zero-audit-2026-02-12.csv`. */
export const fileName = (what: string, ending: string) => `zero-${what}-${new Date().toISOString().slice(0, 10)}.${ending}`;
