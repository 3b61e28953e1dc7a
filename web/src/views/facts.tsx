/** Small facts that streams and jobs have in common. */

import type { Counters } from "../rest";
import { losses } from "../state/jobs";
import { count } from "../state/quantity";

/** Rows a second, once known. */
export function Rate({ rate }: { rate: number | undefined }) {
  return rate === undefined ? null : <span className="rate">{count(rate)}/s</span>;
}

/** Rows that did not go on, and what became of them. */
export function Lost({ counters }: { counters: Counters }) {
  const lost = losses(counters);
  if (lost.length === 0) return null;
  return <small className="warn" title={lost.map(({ name, why }) => `${name}: ${why}`).join("\n")}>{lost.map(({ name, rows }) => `${count(rows)} ${name}`).join(" · ")}</small>;
}
