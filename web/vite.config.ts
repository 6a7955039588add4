import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const server = process.env["XPUSH_URL"] ?? "http://127.0.0.1:8000";

export default defineConfig({
  resolve: {
    alias: { "@xpush/client": fileURLToPath(new URL("../clients/js/src/index.ts", import.meta.url)) },
    // The client's source lies outside this folder; what it imports comes from this one's lock file.
    dedupe: ["socket.io-client"],
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: {
    proxy: { "/api": server, "^/docs/.*\\.(md|svg)$": server, "/socket.io": { target: server, ws: true }, "/sse": server },
  },
  build: {
    // `light-dark()` and OKLCH stay as they are written.
    target: ["chrome123", "firefox128", "safari17.5"],
    // The content security policy allows neither inline scripts nor fonts as data.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    // dist/ is committed and served with ETags: names must not change with the content.
    rolldownOptions: {
      input: {
        start: fileURLToPath(new URL("index.html", import.meta.url)),
        docs: fileURLToPath(new URL("docs/index.html", import.meta.url)),
        admin: fileURLToPath(new URL("admin/index.html", import.meta.url)),
      },
      output: {
        entryFileNames: "assets/[name].js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
});
