import { t } from "./settings.svelte";
import { en, type Key } from "./words";

/** What an entry of the audit log says was done, in words; the action itself when there are none for it. */
export function actionWords(action: string): string {
  const key = `did.${action}`;
  return key in en ? t(key as Key) : action;
}
