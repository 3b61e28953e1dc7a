/** A field for each parameter of the text. While the query runs, a new value goes to it at once where it can. */

import { useEffect, useRef } from "react";
import type { Pane } from "../pane";
import { aKind, hintFor, inWords, isWrong } from "../state/params";
import { count } from "../state/quantity";

/** Pause in typing before a running query gets the value. */
const APPLY_AFTER_MS = 400;

interface Props {
  pane: Pane;
  onRun: () => void;
  /** Something has another value. */
  onValues: () => void;
}

export function Parameters({ pane, onRun, onValues }: Props) {
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  useEffect(() => () => void (timer.current !== null && clearTimeout(timer.current)), []);
  const applyNow = () => {
    if (timer.current !== null) clearTimeout(timer.current);
    timer.current = null;
    pane.apply();
    if (pane.live) onValues();
  };
  const give = (name: string, text: string) => {
    pane.give(name, text);
    if (timer.current !== null) clearTimeout(timer.current);
    timer.current = setTimeout(applyNow, APPLY_AFTER_MS);
  };
  const pressed = (event: React.KeyboardEvent) => {
    if (event.key !== "Enter") return;
    // What runs takes the value at once; what cannot, or does not run, is run with it.
    if (pane.live) applyNow();
    if (!pane.live || pane.stale.length > 0) onRun();
  };
  return (
    <>
      <div className="bar parameters" role="group" aria-label="Parameters" onKeyDown={pressed}>
        {pane.parameters.map((name) => (
          <Parameter key={name} pane={pane} name={name} onGive={(text) => give(name, text)} />
        ))}
      </div>
      <Told pane={pane} onRun={onRun} />
    </>
  );
}

function Parameter({ pane, name, onGive }: { pane: Pane; name: string; onGive: (text: string) => void }) {
  const kind = pane.kindOf(name);
  const typed = pane.values.get(name);
  const wrong = isWrong(typed, kind);
  const known = pane.known.get(name);
  const when = known === undefined ? "" : known.changeable ? ", can change while the query runs" : ", holds from the next run on";
  return (
    <label title={`${aKind(kind)}${when}`}>
      ${name}{" "}
      {kind === "boolean" ? (
        <select value={typed ?? ""} onChange={(event) => onGive(event.target.value)}>
          <option value="">…</option>
          <option value="true">true</option>
          <option value="false">false</option>
        </select>
      ) : (
        <input
          value={typed ?? ""}
          onChange={(event) => onGive(event.target.value)}
          inputMode={kind === "number" ? "decimal" : undefined}
          aria-invalid={wrong || undefined}
          placeholder={hintFor(kind)}
          spellCheck={false}
          autoComplete="off"
        />
      )}
      {wrong && <span className="warn">not {aKind(kind)}</span>}
    </label>
  );
}

/** What became of the values while the query runs. */
function Told({ pane, onRun }: { pane: Pane; onRun: () => void }) {
  const { stale, change } = pane;
  return (
    <div className="told" role="status">
      {stale.length > 0 ? (
        <>
          <span className="warn">
            {change?.kind === "refused"
              ? change.problem.message
              : `${stale.map((name) => `$${name}`).join(", ")} cannot change while the query runs: more than filters depends on it`}
          </span>
          <button onClick={onRun}>Run again with it</button>
        </>
      ) : change?.kind === "asked" ? (
        `${inWords(change.values)} …`
      ) : change?.kind === "holds" ? (
        <span title={`behind position ${change.position}`}>
          {inWords(change.values)} holds, from row {count(change.rows + 1)} on (position <code>{change.position}</code>)
        </span>
      ) : change?.kind === "refused" ? (
        <span className="warn">{change.problem.message}</span>
      ) : null}
    </div>
  );
}
