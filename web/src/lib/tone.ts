const tones: Record<string, "good" | "warn" | "bad"> = {
  online: "good", compliant: "good", succeeded: "good",
  pending: "warn", suspended: "warn", delivered: "warn", expired: "warn",
  non_compliant: "bad", failed: "bad", wiped: "bad",
};

/** How one of the server's names is coloured. */
export const tone = (value: string) => tones[value] ?? "calm";
