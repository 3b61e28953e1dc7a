/** A stream: its columns, its users, and what was set aside. */

import { useState } from "react";
import { ApiError, readRejects, type Reject, type StreamInfo } from "../rest";
import { losses } from "../state/jobs";
import { bytes, count, readable } from "../state/quantity";
import { Lost, Rate } from "./facts";
import { Faults } from "./faults";

interface Props {
  stream: StreamInfo;
  /** Rows a second; undefined: not known yet. */
  rate: number | undefined;
  /** Opens a text in a pane of its own and runs it. */
  onOpen: (sql: string) => void;
}

export function Stream({ stream, rate, onOpen }: Props) {
  const [open, setOpen] = useState(false);
  const name = /^[a-z_][a-z0-9_]*$/.test(stream.name) ? stream.name : `"${stream.name.replaceAll('"', '""')}"`;
  return (
    <li>
      <div className="line">
        <button className="link" onClick={() => onOpen(`SELECT * FROM ${name}`)} title="watch its rows">{stream.name}</button>
        <span className="kind">{stream.connector ?? stream.kind}</span>
        <Rate rate={rate} />
      </div>
      {stream.labels.map((label) => (
        <small key={label} className="warn">{label}</small>
      ))}
      {stream.status !== "running" && <small>{stream.status}</small>}
      <Lost counters={stream.counters} />
      <Users users={stream.users} />
      <details className="more" onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>{stream.columns.length} columns, {count(stream.rows)} rows</summary>
        <table>
          <tbody>
            {stream.columns.map((column) => (
              <tr key={column.name}>
                <th scope="row">{column.name}</th>
                <td>{column.type}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <small>event time: {stream.event_time}</small>
        {stream.watermark !== null && <small>watermark {readable(stream.watermark)}</small>}
        <small>kept: {count(stream.log_rows)} rows, {bytes(stream.log_bytes)}</small>
        {losses(stream.counters).length > 0 && <Rejects stream={stream.name} />}
        {open && stream.connector === "generator" && <Faults stream={stream.name} />}
      </details>
    </li>
  );
}

function Users({ users }: { users: string[] }) {
  if (users.length === 0) return null;
  return <small title={users.join(", ")}>used by {users.slice(0, 4).join(", ")}{users.length > 4 ? ` and ${users.length - 4} more` : ""}</small>;
}

/** The last records that were set aside, when asked for. */
function Rejects({ stream }: { stream: string }) {
  const [rejects, setRejects] = useState<Reject[]>([]);
  const [problem, setProblem] = useState<string | null>(null);
  const look = () =>
    readRejects(stream).then(
      (found) => {
        setRejects(found);
        setProblem(found.length === 0 ? "none were kept" : null);
      },
      (error: unknown) => setProblem(error instanceof ApiError ? error.message : String(error)),
    );
  return (
    <div className="rejects">
      <button onClick={() => void look()}>Look at rows set aside</button>
      {problem !== null && <small role="status">{problem}</small>}
      <ul>
        {rejects.map((reject, at) => (
          <li key={at}>
            <small className="warn">{reject.reason}</small>
            <code>{reject.row}</code>
          </li>
        ))}
      </ul>
    </div>
  );
}
