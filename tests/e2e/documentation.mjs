// The documentation that the appliance serves: every page fits, is readable in both themes, and leads back.
import assert from "node:assert/strict";

export async function documentation({ page, zero, step, look }) {
  await step("the documentation is read from the dashboard on, page by page", async () => {
    await page.getByText("Ada Lovelace").first().click();
    await page.getByRole("link", { name: "Documentation" }).click();
    await page.getByRole("heading", { level: 1 }).waitFor();
    const pages = await page.locator("nav.pages a").evaluateAll((links) => links.map((link) => new URL(link.href).pathname));
    assert.ok(pages.length > 6, String(pages));
    for (const path of pages.filter((path) => path.startsWith("/docs") && !path.endsWith(".json"))) {
      await page.goto(zero.url + path);
      await page.getByRole("heading", { level: 1 }).waitFor();
      await look(path.slice(1).replaceAll("/", "-"));
    }
    await page.getByRole("link", { name: "Dashboard" }).click();
    await page.getByRole("heading", { name: "Overview" }).waitFor();
  });
}
