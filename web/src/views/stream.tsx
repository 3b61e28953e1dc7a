/** A stream: its columns, its users, and what was set aside. */

import { useState } from "react";
import type { StreamInfo } from "../rest";
import { hasSamples, lateReasonsOf, lateRowsOf, quoted } from "../state/jobs";
import { bytes, count, readable } from "../state/quantity";
import { Lost, Rate } from "./facts";
import { Faults } from "./faults";
import { Rejects } from "./rejects";

interface Props {
  stream: StreamInfo;
  /** Rows a second; undefined: not known yet. */
  rate: number | undefined;
  /** Rows that were late for it. */
  late: number;
  /** Opens a text in a pane of its own and runs it. */
  onOpen: (sql: string) => void;
}

export function Stream({ stream, rate, late, onOpen }: Props) {
  const [open, setOpen] = useState(false);
  return (
    <li>
      <div className="line">
        <button className="link" onClick={() => onOpen(`SELECT * FROM ${quoted(stream.name)}`)} title="watch its rows">{stream.name}</button>
        <span className="kind">{stream.connector ?? stream.kind}</span>
        <Rate rate={rate} />
      </div>
      {stream.labels.map((label) => (
        <small key={label} className="warn">{label}</small>
      ))}
      {stream.status !== "running" && <small>{stream.status}</small>}
      <Lost counters={stream.counters} />
      {late > 0 && (
        <div className="looks">
          <small className="warn">{count(late)} late</small>
          <button onClick={() => onOpen(lateRowsOf(stream.name))}>Read late rows</button>
          <button onClick={() => onOpen(lateReasonsOf(stream.name))}>by reason</button>
        </div>
      )}
      {hasSamples(stream.counters) && <Rejects of={stream.name} />}
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
        {open && stream.connector === "generator" && <Faults stream={stream.name} />}
      </details>
    </li>
  );
}

function Users({ users }: { users: string[] }) {
  if (users.length === 0) return null;
  return <small title={users.join(", ")}>used by {users.slice(0, 4).join(", ")}{users.length > 4 ? ` and ${users.length - 4} more` : ""}</small>;
}
