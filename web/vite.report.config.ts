// Builds the stand-alone report: one HTML file with script and style inside, for `performance_report`.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** Puts the bundle and the style sheet into report.html itself and drops the separate files. */
function inlineEverything(): Plugin {
  return {
    name: "inline-everything",
    enforce: "post",
    generateBundle(_options, bundle) {
      const html = bundle["report.html"];
      if (html?.type !== "asset") throw new Error("report.html is not in the bundle");
      let text = String(html.source);
      for (const [name, file] of Object.entries(bundle)) {
        if (file.type === "chunk") {
          // `</script` inside the script would end it early.
          const code = file.code.replace(/<\/script/gi, "<\\/script");
          text = text.replace(/<script[^>]*src="[^"]*"[^>]*><\/script>/, "");
          text = text.replace("</body>", () => `<script>${code}</script></body>`);
          delete bundle[name];
        } else if (name.endsWith(".css")) {
          text = text.replace(/<link rel="stylesheet"[^>]*>/, () => `<style>${String(file.source)}</style>`);
          delete bundle[name];
        }
      }
      html.source = text;
    },
    closeBundle() {
      const file = join(import.meta.dirname, "dist/report.html");
      if (/(src|href)="\.?\/?assets/.test(readFileSync(file, "utf8")))
        throw new Error("report.html still refers to files");
      rmSync(join(import.meta.dirname, "dist/assets-report"), { recursive: true, force: true });
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [inlineEverything()],
  build: {
    target: "es2022",
    emptyOutDir: false,
    modulePreload: false,
    cssCodeSplit: false,
    reportCompressedSize: false,
    rollupOptions: {
      input: "report.html",
      output: {
        format: "iife",
        entryFileNames: "assets-report/report.js",
        assetFileNames: "assets-report/[name][extname]",
      },
    },
  },
});
