/** The server's names, in the order in which people see them. */
export const statuses = ["online", "offline", "pending", "suspended", "wiped"] as const;
export const platforms = ["linux", "windows", "macos", "android", "ios"] as const;
export const compliances = ["compliant", "non_compliant", "unknown"] as const;
export const actions = ["lock", "unlock", "suspend", "resume", "wipe", "delete"] as const;
export type Action = (typeof actions)[number];
