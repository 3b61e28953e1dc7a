/** Faults of synthetic plays: injected while queries run, to be found by them. */

import { type FormEvent, useEffect, useState } from "react";
import { ApiError, type Fault, readFaults, setFaults } from "../rest";

const FIELDS = ["title", "device", "country"] as const;

/** Share of the plays that fail, unless the reader chooses. */
const USUAL_PERCENT = 60;

export function Faults({ stream }: { stream: string }) {
  const [faults, setKnown] = useState<Fault[]>([]);
  const [problem, setProblem] = useState<string | null>(null);
  const told = (answer: Promise<Fault[]>) =>
    answer.then(
      (known) => {
        setKnown(known);
        setProblem(null);
      },
      (error: unknown) => setProblem(error instanceof ApiError ? error.message : String(error)),
    );
  useEffect(() => void told(readFaults(stream)), [stream]);
  const inject = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const fault: Fault = { failure_rate: Number(form.get("percent")) / 100 };
    for (const field of FIELDS) fault[field] = String(form.get(field)).trim() || undefined;
    void told(setFaults(stream, [...faults, fault]));
  };
  return (
    <form className="faults" onSubmit={inject} aria-label={`Faults of ${stream}`}>
      <small>let plays fail, and find them by a query:</small>
      {FIELDS.map((field) => (
        <label key={field}>
          {field} <input name={field} placeholder="any" defaultValue={field === "device" ? "tv" : field === "country" ? "BR" : ""} />
        </label>
      ))}
      <label>
        failing % <input name="percent" type="number" min="0" max="100" defaultValue={USUAL_PERCENT} required />
      </label>
      <div>
        <button type="submit">Inject</button> <button type="button" disabled={faults.length === 0} onClick={() => void told(setFaults(stream, []))}>Clear all</button>
      </div>
      {problem !== null && <small className="warn" role="alert">{problem}</small>}
      <ul aria-label="Faults in force">
        {faults.map((fault, at) => (
          <li key={at} className="warn">{sentence(fault)}</li>
        ))}
      </ul>
    </form>
  );
}

function sentence(fault: Fault): string {
  const where = FIELDS.flatMap((field) => (fault[field] === undefined ? [] : [`${field} ${fault[field]}`]));
  return `${Math.round(fault.failure_rate * 100)} % fail: ${where.length === 0 ? "all plays" : where.join(", ")}`;
}
