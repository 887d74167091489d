/** Whole minutes that are enough for so many seconds. */
export const wait = (seconds: number) => Math.max(1, Math.ceil(seconds / 60));

/** Calls again and again while the page is in sight; returns how to stop. */
export function repeat(every: number, call: () => unknown): () => void {
  const timer = setInterval(() => document.visibilityState === "visible" && call(), every);
  return () => clearInterval(timer);
}
