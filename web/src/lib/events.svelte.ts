import { ask, type Schemas } from "./api";

export type Happened = Schemas["LiveEntry"];
/** Called with what happened; without anything when all that is shown has to be read anew. */
type Listener = (happened: Happened | undefined) => void;

const listeners = new Set<Listener>();
/** The last event that arrived: a broken stream goes on after it. */
let last: string | undefined;
let open: AbortController | undefined;

/** Whether what is shown follows what happens; nothing where no page asks for it. */
export const stream = $state<{ state?: "live" | "broken" }>({});

/** Hears of changes as the appliance announces them; one stream serves the whole tab. Returns how to stop. */
export function hear(listener: Listener): () => void {
  listeners.add(listener);
  if (!open) void run((open = new AbortController()));
  return () => {
    listeners.delete(listener);
    // The next page may listen as well.
    setTimeout(() => listeners.size === 0 && close(), 1_000);
  };
}

function close() {
  open?.abort();
  open = last = stream.state = undefined;
}

/**
 * Reads anew whenever something happened that `concerns` the page, at most once in so many milliseconds, and once it
 * is in sight again. Returns how to stop.
 */
export function live(load: () => unknown, concerns: (happened: Happened) => boolean = () => true, every = 1_000): () => void {
  let stale = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const fresh = () => {
    timer = undefined;
    if (!stale || document.visibilityState !== "visible") return;
    stale = false;
    timer = setTimeout(fresh, every);
    void load();
  };
  const stop = hear((happened) => {
    if (happened && !concerns(happened)) return;
    stale = true;
    timer ??= setTimeout(fresh, 100);
  });
  const seen = () => (timer ??= setTimeout(fresh, 100));
  document.addEventListener("visibilitychange", seen);
  return () => {
    stop();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}

async function run(connection: AbortController) {
  let failures = 0;
  while (!connection.signal.aborted) {
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const response = await ask("/api/v1/events", { headers, signal: connection.signal });
      // Signed out, or not allowed: asking again would change nothing.
      if (response.status === 401 || response.status === 403) return close();
      if (response.ok && response.body) {
        failures = 0;
        stream.state = "live";
        await read(response.body);
      }
    } catch {
      if (connection.signal.aborted) return;
    }
    if (connection.signal.aborted) return;
    stream.state = "broken";
    // Between half and all of 1, 2, 4 … 30 seconds, so that not all tabs come back at once.
    const wait = Math.min(30_000, 1_000 * 2 ** failures++) * (0.5 + Math.random() / 2);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function read(body: ReadableStream<Uint8Array>) {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    events.forEach(tell);
  }
}

function tell(text: string) {
  const fields = new Map(text.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
  const data = fields.get("data");
  if (!data) return;
  const resumed = last !== undefined;
  last = fields.get("id") ?? last;
  const name = fields.get("event");
  // What a page read before its stream was ready may be old already.
  if (name === "ready" && resumed) return;
  const happened = name === "reset" || name === "ready" ? undefined : (JSON.parse(data) as Happened);
  for (const listener of listeners) listener(happened);
}
