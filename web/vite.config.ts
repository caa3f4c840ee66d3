// Builds the page: one HTML file, one classic script, one style sheet. No modules: a module script needs CORS in a
// sandboxed frame, a classic one does not.
import { defineConfig, type Plugin } from "vite";

/** Vite always writes `<script type="module" crossorigin>`; our bundle is a plain script that may run deferred. */
function classicScript(): Plugin {
  return {
    name: "classic-script",
    enforce: "post",
    transformIndexHtml: (html) =>
      html
        .replace(/<script type="module" crossorigin/g, "<script defer")
        .replace(/<link rel="stylesheet" crossorigin/g, '<link rel="stylesheet"'),
  };
}

const target = process.env.RASK_URL ?? "http://127.0.0.1:8787";

export default defineConfig({
  base: "./",
  plugins: [classicScript()],
  build: {
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    reportCompressedSize: true,
    rollupOptions: {
      output: {
        format: "iife",
        entryFileNames: "assets/page-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: { proxy: { "/feed": { target, ws: true }, "/api": { target }, "/json": { target } } },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
} as Parameters<typeof defineConfig>[0]);
