import { defineConfig } from "vite";

// A gateway to develop against: `cargo run -- --listen 127.0.0.1:7979`, then `npm run dev`.
const gateway = process.env["SQUILLA_URL"] ?? "http://127.0.0.1:7979";

export default defineConfig({
  build: {
    // The policy allows no inline script; small assets stay files of their own.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
    chunkSizeWarningLimit: 1200,
  },
  server: {
    proxy: { "/api": { target: gateway, ws: true, changeOrigin: true, headers: { origin: gateway } } },
  },
});
