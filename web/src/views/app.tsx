/** The whole console. */

import { useEffect, useState, useSyncExternalStore } from "react";
import type { Catalog } from "../catalog";
import type { Pane } from "../pane";
import type { Connection, SocketState } from "../socket";
import type { Workspace } from "../workspace";
import { useChanges } from "./changes";
import { PaneView } from "./pane";
import { Side } from "./side";
import { nextTheme, type Theme, useTheme } from "./theme";

/** Below this width the panel would push the query out of sight: it opens when asked for. */
const NARROW_PX = 900;

/** How long a button says that it has copied. */
const COPIED_MS = 1500;

interface Props {
  workspace: Workspace;
  catalog: Catalog;
  connection: Connection;
}

export function App({ workspace, catalog, connection }: Props) {
  useChanges(workspace);
  const [side, setSide] = useState(() => innerWidth > NARROW_PX);
  const { theme, shown, setTheme } = useTheme();
  const run = (pane: Pane) => {
    workspace.remember();
    void pane.start().then(catalog.readNow);
  };
  const open = (sql: string) => run(workspace.add(sql));
  return (
    <>
      <header className="top">
        <h1>Squilla</h1>
        <State connection={connection} catalog={catalog} />
        <div className="end">
          <button onClick={() => workspace.add("")} disabled={workspace.full} title="another query beside these">Add query</button>
          <CopyLink workspace={workspace} />
          <button onClick={() => setTheme(nextTheme(theme))} title="colours: those of the system, light, or dark">{themeName(theme)}</button>
          <button onClick={() => setSide(!side)} aria-expanded={side} aria-controls="side">Panel</button>
        </div>
      </header>
      <div className="body">
        <div id="side" hidden={!side}>
          <Side catalog={catalog} onOpen={open} onExample={(example) => void workspace.open(example.queries).then(catalog.readNow)} />
        </div>
        <main className={`panes panes-${workspace.panes.length}`} onKeyDown={stepPanes}>
          {workspace.panes.map((pane, at) => (
            <PaneView
              key={pane.id}
              pane={pane}
              catalog={catalog}
              number={at + 1}
              theme={shown}
              onRun={run}
              onValues={() => workspace.remember()}
              onOpen={open}
              onClose={workspace.panes.length > 1 ? () => workspace.close(pane) : null}
            />
          ))}
        </main>
      </div>
    </>
  );
}

/** F6 goes to the next pane's editor, with Shift to the one before. */
function stepPanes(event: React.KeyboardEvent<HTMLElement>) {
  if (event.key !== "F6") return;
  event.preventDefault();
  const editors = [...event.currentTarget.querySelectorAll<HTMLElement>(".cm-content")];
  const panes = [...event.currentTarget.querySelectorAll(".pane")];
  const here = panes.findIndex((pane) => pane.contains(document.activeElement));
  const step = event.shiftKey ? editors.length - 1 : 1;
  editors[(here + step) % editors.length]?.focus();
}

function State({ connection, catalog }: { connection: Connection; catalog: Catalog }) {
  const state = useSyncExternalStore(connection.onState, () => connection.state);
  useChanges(catalog);
  const away = state.kind === "waiting" || state.kind === "closed";
  return (
    <p className={`connection ${state.kind}`} role="status">
      <span className="dot" aria-hidden="true" />
      {wordsFor(state)}
      {state.kind === "open" && catalog.problem !== null && <span className="warn"> · {catalog.problem}</span>}
      {away && <button onClick={connection.retryNow}>try now</button>}
    </p>
  );
}

function wordsFor(state: SocketState): string {
  switch (state.kind) {
    case "open":
      return "connected";
    case "waiting":
      return `connection lost (${state.reason}), trying again`;
    case "closed":
      return `the server closed the connection (${state.code} ${state.reason})`;
    default:
      return "connecting…";
  }
}

function CopyLink({ workspace }: { workspace: Workspace }) {
  const [said, say] = useState<string | null>(null);
  useEffect(() => {
    if (said === null) return;
    const timer = setTimeout(() => say(null), COPIED_MS);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = () => {
    workspace.remember();
    // Without a secure context there is no clipboard; the address has the link all the same.
    if (navigator.clipboard === undefined) say("it is in the address");
    else navigator.clipboard.writeText(location.href).then(() => say("Copied"), () => say("it is in the address"));
  };
  return (
    <button onClick={copy} title="a link that reopens these queries">
      <span role="status">{said ?? "Copy link"}</span>
    </button>
  );
}

function themeName(theme: Theme): string {
  return theme === "system" ? "Auto" : theme === "light" ? "Light" : "Dark";
}
