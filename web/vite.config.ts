import { svelte } from "@sveltejs/vite-plugin-svelte";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** Names the packages whose code is in the bundle, with their licences: they belong to what the appliance is made of. */
const parts: Plugin = {
  name: "parts",
  generateBundle(_, bundle) {
    const folders = new Set<string>();
    for (const chunk of Object.values(bundle)) {
      for (const id of chunk.type === "chunk" ? Object.keys(chunk.modules) : []) {
        const folder = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id.replaceAll("\0", ""))?.[0];
        if (folder && existsSync(join(folder, "package.json"))) folders.add(folder);
      }
    }
    const found = [...folders].sort().map((folder) => {
      const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      const texts = readdirSync(folder).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file)).sort();
      return { name, version, license, texts: texts.map((file) => readFileSync(join(folder, file), "utf8")) };
    });
    this.emitFile({ type: "asset", fileName: "parts.json", source: JSON.stringify(found) });
  },
};

export default defineConfig({
  plugins: [svelte(), parts],
  build: {
    target: "es2022",
    // Everything is a file of its own: what is inlined as data: URL or script, the Content-Security-Policy refuses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": { target: process.env.ZERO_URL ?? "https://localhost:8443", secure: false } } },
});
