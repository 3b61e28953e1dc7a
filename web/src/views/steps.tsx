/** Buttons of a replay: pause, continue, step; and where it stands. */

import type { LiveQuery } from "../pane";
import { readable } from "../state/quantity";

/** Rows that the larger step brings. */
const MANY_ROWS = 10;

export function Steps({ query }: { query: LiveQuery }) {
  const { pace } = query;
  const paused = pace?.paused ?? false;
  const step = (rows: number) => query.steer({ type: "step", rows });
  return (
    <div className="bar" role="group" aria-label="Replay">
      <button onClick={() => query.steer({ type: paused ? "continue" : "pause" })} title="F8">{paused ? "Continue" : "Pause"}</button>
      <button onClick={() => step(1)} title="F9: one row, then a pause">Step</button>
      <button onClick={() => step(MANY_ROWS)} title="Shift-F9: so many rows, then a pause">Step {MANY_ROWS}</button>
      <span className="state" role="status">
        {pace?.error !== undefined && `${pace.error.message}; ${pace.error.help ?? ""}`}
        {paused && (pace?.event_time == null ? "paused before its first row" : `paused at ${readable(pace.event_time)}`)}
        {paused && <span title="a subscription from here goes on with the next row"> · position {pace?.position}</span>}
      </span>
    </div>
  );
}

/** F8 pauses and goes on, F9 takes a step. True: the key was one of these. */
export function steerByKey(query: LiveQuery | null, event: { key: string; shiftKey: boolean }): boolean {
  if (query === null || (event.key !== "F8" && event.key !== "F9")) return false;
  if (event.key === "F8") query.steer({ type: query.pace?.paused === true ? "continue" : "pause" });
  else query.steer({ type: "step", rows: event.shiftKey ? MANY_ROWS : 1 });
  return true;
}
