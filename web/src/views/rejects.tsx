/** The last records and rows that a stream or job set aside, when asked for. They are drawn as text, never as HTML. */

import { useState } from "react";
import { ApiError, readRejects, type Reject } from "../rest";

/** `of`: a source or stream by its name, or a job by its id. */
export function Rejects({ of: name, label = "Look at rows set aside" }: { of: string; label?: string }) {
  const [rejects, setRejects] = useState<Reject[] | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const look = () =>
    readRejects(name).then(
      (found) => {
        setRejects(found);
        setProblem(found.length === 0 ? "none were kept" : null);
      },
      (error: unknown) => setProblem(error instanceof ApiError ? error.message : String(error)),
    );
  return (
    <div className="rejects">
      <button onClick={() => void look()}>{rejects === null ? label : "Look again"}</button>
      {rejects !== null && <button className="quiet" onClick={() => (setRejects(null), setProblem(null))}>hide</button>}
      {problem !== null && <small role="status">{problem}</small>}
      {rejects !== null && rejects.length > 0 && (
        <ul aria-label={`Rows set aside by ${name}`} tabIndex={0}>
          {rejects.toReversed().map((reject, at) => (
            <li key={at}>
              <small className="warn">{reject.reason}</small>
              <code>{reject.row}</code>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
