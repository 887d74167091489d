import type { paths } from "$api";

type Query = NonNullable<paths["/api/v1/audit-logs"]["get"]["parameters"]["query"]>;
export type AuditFilter = Omit<Query, "page" | "page_size">;
export const filterNames = ["from", "to", "action", "actor_id", "resource_type", "resource_id", "result", "source_ip"] as const;

/** What the log calls things; a beginning such as `auth.` stands for all of its kind. */
export const auditActions = [
  "auth.", "auth.login.success", "auth.login.failure", "auth.lockout", "auth.mfa.challenge", "auth.mfa.verify", "auth.logout",
  "auth.reset.request", "auth.session.expired", "auth.session.revoked",
  "device.", "device.enroll", "device.unenroll", "device.update", "device.wipe", "device.lock", "device.unlock",
  "device.status.change", "device.policy.sync", "device.compliance.change", "device.command.expire",
  "device.certificate.renew", "device.certificate.replace", "device.certificate.revoke",
  "enrollment_token.", "enrollment_token.create", "enrollment_token.delete",
  "policy.", "policy.create", "policy.update", "policy.delete", "policy.assign",
  "user.", "user.create", "user.update", "user.delete", "user.suspend", "user.resume", "user.role.change",
  "group.", "group.create", "group.update", "group.delete", "role.", "role.create", "role.update", "role.delete",
  "dlp.", "dlp.clipboard.blocked", "dlp.screenshot.blocked", "dlp.usb.blocked", "dlp.sensitive.detected",
  "webhook.", "webhook.create", "webhook.update", "webhook.delete", "webhook.disable", "webhook.overflow",
  "webhook.redeliver", "webhook.rotate", "webhook.test",
  "api_key.", "api_key.create", "api_key.delete", "gdpr.", "gdpr.export", "gdpr.restrict", "gdpr.object", "gdpr.delete",
  "organization.", "organization.create", "organization.update", "organization.delete",
  "organization.mfa.confirm", "organization.mfa.revert",
  "audit.", "audit.export", "audit.checkpoint", "audit.retention",
  "system.", "system.setup", "system.recover_admin", "system.backup", "system.restore", "system.mail.send", "system.syslog.skipped",
  "system.signing_key.rotate", "system.settings.change", "system.settings.confirm", "system.settings.revert", "system.update.started",
  "system.update.finished", "system.update.undone", "system.update.refused",
];
export const resourceTypes = [
  "device", "user", "group", "role", "policy", "webhook", "api_key", "enrollment_token", "session", "organization",
];

/** What `datetime-local` shows for an instant, in the reader's zone. */
export function toLocal(instant: string | undefined | null): string {
  const at = new Date(instant ?? "");
  if (Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** The instant as the API writes it. */
export const toInstant = (local: string | number): string => {
  const at = new Date(local);
  return Number.isNaN(at.getTime()) ? "" : `${at.toISOString().slice(0, 19)}Z`;
};
