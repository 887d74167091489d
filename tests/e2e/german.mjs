// The dashboard in German: help, the menu, and every page that there is.
import assert from "node:assert/strict";
import { PAGES, pathOf, visit } from "./roles.mjs";

export async function german({ page, step, look, quiet, fit, picture }, opened) {
  await step("help is a key away, and the language is changed at once", async () => {
    await page.keyboard.press("?");
    await look("help");
    await page.keyboard.press("Escape");
    await page.getByText("Ada Lovelace").first().click();
    await look("menu");
    await page.getByLabel("Language").selectOption("de");
    await page.getByRole("link", { name: "Übersicht" }).click();
    await quiet(page);
    assert.equal(await page.evaluate(() => document.documentElement.lang), "de");
  });

  await step("every page fits in German as well", async () => {
    const wrong = [];
    await page.emulateMedia({ colorScheme: "light" });
    for (const [pattern] of PAGES) {
      await visit(page, pathOf(pattern, opened));
      await quiet(page);
      const name = `de${pattern.replace(/[^a-z]+/g, "-").replace(/^-$/, "-overview")}`;
      wrong.push(...(await fit(page, name, async (width) => width !== 768 && (await picture(page, name, width, "light")))));
    }
    assert.deepEqual(wrong, []);
    await page.evaluate(() => localStorage.setItem("zero.language", "en"));
    await page.reload();
  });
}
