/** Starts the binary's demo on a free port, and a browser to look at it. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

// The console's packages have the browser's driver.
const require = createRequire(new URL("../../web/package.json", import.meta.url));
const { chromium } = require("playwright-core");
export const { AxeBuilder } = require("@axe-core/playwright");

const BINARY = process.env.SQUILLA_BIN;
const CHROMIUM = process.env.SQUILLA_CHROMIUM ?? "/usr/bin/chromium";
/** How long the binary may take to say its URL. */
const START_MS = 10_000;

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** The demo, running: `{ url, startedAt, stop }`. */
export async function startDemo() {
  if (!BINARY) throw new Error("SQUILLA_BIN names no binary: `tests/run browser` builds one and sets it");
  const port = await freePort();
  const startedAt = performance.now();
  const child = spawn(BINARY, ["demo", "--listen", `127.0.0.1:${port}`], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const ended = once(child, "exit");
  const told = Promise.race([
    once(lines, "line").then(([line]) => line),
    ended.then(([code]) => Promise.reject(new Error(`the binary ended with ${code}`))),
    new Promise((_, reject) => setTimeout(() => reject(new Error("the binary says no URL")), START_MS).unref()),
  ]);
  const url = /http:\/\/\S+/.exec(await told)?.[0];
  if (url === undefined) throw new Error("the binary's first line has no URL");
  return {
    url,
    startedAt,
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

export function startBrowser(more = []) {
  const args = ["--no-sandbox", "--disable-quic", "--disable-background-networking", ...more];
  return chromium.launch({ executablePath: CHROMIUM, args });
}
