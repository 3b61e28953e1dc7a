/** A pane: editor, buttons, mistakes, and what the statements gave. */

import { useEffect, useState } from "react";
import type { Catalog } from "../catalog";
import { Editor } from "../editor/editor";
import type { LiveQuery, LiveState, Outcome, Pane, Run } from "../pane";
import { placeOf } from "../state/spans";
import { hasStart } from "../state/start";
import type { Diagnostic } from "../wire";
import { useChanges } from "./changes";
import { Parameters } from "./parameters";
import { Chart } from "./chart";
import { Counters } from "./counters";
import { Ledger } from "./ledger";
import { Steps, steerByKey } from "./steps";
import { LiveTable, PlainTable } from "./table";

interface Props {
  pane: Pane;
  catalog: Catalog;
  number: number;
  theme: string;
  /** Null: it is the only one. */
  onClose: (() => void) | null;
  onRun: (pane: Pane) => void;
  /** Parameters have other values: the address is to have them. */
  onValues: () => void;
  /** Opens a text in a pane of its own and runs it. */
  onOpen: (sql: string) => void;
}

export function PaneView({ pane, catalog, number, theme, onClose, onRun, onValues, onOpen }: Props) {
  useChanges(pane);
  const { run } = pane;
  const asking = run?.state === "asking";
  const busy = asking || pane.live;
  const escape = (event: React.KeyboardEvent) => {
    // The editor's own uses of Escape, such as closing suggestions, come first.
    if (event.key === "Escape" && !event.defaultPrevented && busy) pane.stop();
    if (steerByKey(pane.replay, event)) event.preventDefault();
  };
  return (
    <section className="pane" aria-label={`Query ${number}`} onKeyDown={escape}>
      <Editor pane={pane} catalog={catalog} label={`SQL of query ${number}`} onRun={() => onRun(pane)} />
      {pane.parameters.length > 0 && <Parameters pane={pane} onRun={() => onRun(pane)} onValues={onValues} />}
      <div className="bar">
        <button className="primary" onClick={() => onRun(pane)} title="Ctrl-Enter or Cmd-Enter">
          {busy ? "Run again" : "Run"}
        </button>
        {run !== null && hasStart(run.sql) && (
          <button onClick={() => void pane.start(true)} title="from the start, paused before the first row">Run paused</button>
        )}
        <button onClick={() => pane.stop()} disabled={!busy} title="Escape">Stop</button>
        <span className="state" role="status">{stateOf(run)}</span>
        {onClose !== null && (
          <button className="quiet end" onClick={onClose} aria-label={`Close query ${number}`} title="Close">✕</button>
        )}
      </div>
      <Mistakes pane={pane} />
      {run !== null && <Outcomes run={run} theme={theme} told={pane.mistakes} catalog={catalog} onOpen={onOpen} />}
    </section>
  );
}

function stateOf(run: Run | null): string {
  if (run === null) return "";
  if (run.state === "asking") return "asking…";
  const live = run.outcomes.filter((outcome) => outcome.kind === "live");
  const words = live.map((outcome) => wordOf(outcome.query.state));
  return [...new Set(words)].join(", ");
}

/** Why a query is complete. */
const COMPLETE: Record<string, string> = {
  ended: "all of its input was read",
  limit: "as many rows came as LIMIT asks for",
};

function wordOf(state: LiveState): string {
  switch (state.kind) {
    case "starting":
      return "starting…";
    case "resuming":
      return "connection lost, resumes with it";
    case "complete":
      return `complete: ${COMPLETE[state.reason] ?? state.reason}`;
    case "failed":
      return state.problems[0]?.code === "killed" ? "ended from elsewhere" : "failed";
    default:
      return state.kind;
  }
}

/** Mistakes of the run, else those found while typing. */
function Mistakes({ pane }: { pane: Pane }) {
  const ofRun = pane.run !== null && pane.run.sql === pane.sql ? pane.run.problems : [];
  const shown = ofRun.length > 0 ? ofRun : pane.mistakes;
  if (shown.length === 0) return null;
  return (
    <div role={ofRun.length > 0 ? "alert" : undefined}>
      <ul className="mistakes" aria-label="Mistakes">
        {shown.map((mistake, at) => (
          <Mistake key={at} mistake={mistake} text={pane.sql} />
        ))}
      </ul>
    </div>
  );
}

function Mistake({ mistake, text }: { mistake: Diagnostic; text: string | null }) {
  const place = mistake.span && text !== null ? placeOf(text, mistake.span) : null;
  return (
    <li>
      {place !== null && <span className="place">{place.line}:{place.column}</span>} {mistake.message}
      {(mistake.notes ?? []).map((note) => (
        <div key={note} className="hint">note: {note}</div>
      ))}
      {mistake.help && <div className="hint">help: {mistake.help}</div>}
    </li>
  );
}

interface OutcomesProps {
  run: Run;
  theme: string;
  /** Mistakes that are shown already. */
  told: Diagnostic[];
  catalog: Catalog;
  onOpen: (sql: string) => void;
}

function Outcomes({ run, theme, told, catalog, onOpen }: OutcomesProps) {
  const messages = run.outcomes.filter((outcome) => outcome.kind === "message");
  const tabs = run.outcomes.filter((outcome) => outcome.kind !== "message");
  const [chosen, choose] = useState<number | null>(null);
  useEffect(() => choose(null), [run]);
  // The last statement's rows are what a script is about.
  const at = chosen !== null && chosen < tabs.length ? chosen : tabs.length - 1;
  const shown = tabs[at];
  return (
    <>
      {messages.length > 0 && (
        <div role="status">
          <ul className="messages">
            {messages.map((message, index) => (
              <li key={index}>{message.text}</li>
            ))}
          </ul>
        </div>
      )}
      {tabs.length > 1 && (
        <div className="tabs" role="group" aria-label="Results">
          {tabs.map((tab, index) => (
            <button key={index} aria-pressed={index === at} onClick={() => choose(index)} title={titleOf(tab)}>
              {tab.kind === "live" ? "live" : "table"} {index + 1}
            </button>
          ))}
        </div>
      )}
      {shown?.kind === "table" && <PlainTable key={at} columns={shown.columns} rows={shown.rows} />}
      {shown?.kind === "live" && <Live key={at} query={shown.query} theme={theme} told={told} catalog={catalog} onOpen={onOpen} />}
    </>
  );
}

function titleOf(outcome: Outcome): string {
  return outcome.kind === "live" ? outcome.query.sql : "";
}

interface LiveProps {
  query: LiveQuery;
  theme: string;
  told: Diagnostic[];
  catalog: Catalog;
  onOpen: (sql: string) => void;
}

function Live({ query, theme, told, catalog, onOpen }: LiveProps) {
  useChanges(query);
  const { result, state } = query;
  const failures = state.kind === "failed" ? state.problems : [];
  const problems = failures.filter((problem) => !told.some((mistake) => mistake.message === problem.message));
  return (
    <div className="live">
      {problems.length > 0 && (
        <div role="alert">
          <ul className="mistakes" aria-label="Why it failed">
            {problems.map((problem, at) => (
              <Mistake key={at} mistake={problem} text={null} />
            ))}
          </ul>
        </div>
      )}
      {result.schema.length > 0 && (
        <>
          <Counters query={query} />
          {query.live && query.replays && <Steps query={query} />}
          {query.live && <Ledger catalog={catalog} query={result.query} onOpen={onOpen} />}
          {result.chart !== null && <Chart query={query} plan={result.chart} theme={theme} />}
          {result.rows === 0 && result.gaps === 0 && query.live && <p className="note">{waitsFor(query)}</p>}
          <LiveTable result={result} />
        </>
      )}
    </div>
  );
}

function waitsFor(query: LiveQuery): string {
  return query.result.chart?.windowed
    ? "no rows yet: a window is told when it closes, or as it fills with EMIT EVERY INTERVAL '1 second'"
    : "no rows yet: they come as events happen";
}
