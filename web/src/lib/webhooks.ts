/** What a webhook can be told of. */
export const webhookEvents = [
  "device.enrolled", "device.unenrolled", "device.online", "device.offline", "device.suspended", "device.locked",
  "device.wiped", "device.compliance.changed", "policy.created", "policy.updated", "policy.deleted", "policy.assigned",
  "user.created", "user.updated", "user.suspended", "user.deleted", "audit.alert",
];

export const groupOf = (name: string) => `${name.slice(0, name.indexOf("."))}.*`;
