/** Puts the console together and starts it. */

import { createRoot } from "react-dom/client";
import "uplot/dist/uPlot.min.css";
import "./styles.css";
import { Catalog } from "./catalog";
import { FIRST_STEPS, offered } from "./examples";
import { browserSurroundings, Connection } from "./socket";
import { App } from "./views/app";
import { Workspace } from "./workspace";

const connection = new Connection(browserSurroundings(location));
const catalog = new Catalog();
const workspace = new Workspace(connection);

/** Shows what the address asks for; else the first example that this server can run. */
async function open(): Promise<void> {
  if (workspace.openLink(location.hash)) return catalog.readNow();
  await catalog.readStreams();
  const names = catalog.streams.map((stream) => stream.name);
  const example = offered(names).find((candidate) => candidate.needs.length > 0);
  if (example === undefined) workspace.add(FIRST_STEPS);
  else await workspace.open(example.queries);
  await catalog.readNow();
}

createRoot(document.getElementById("root")!).render(<App workspace={workspace} catalog={catalog} connection={connection} />);
addEventListener("hashchange", () => workspace.openLink(location.hash));
// After a sleep or a loss of the network, whoever looks again should not have to wait or press a button.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) connection.retryNow();
});
addEventListener("online", connection.retryNow);
void open();
catalog.start();
