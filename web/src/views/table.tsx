/** The newest rows of a live query, newest first. Scrolling down holds the view still; rows go on being kept. */

import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef, useState } from "react";
import { indented, kindOf, shownText, wholeText } from "../state/cell";
import { count } from "../state/quantity";
import { inWords } from "../state/params";
import { gapReason, type Item, KEPT_ROWS, type Result, type Row } from "../state/result";
import type { Cell, Field } from "../wire";

const ROW_HEIGHT = 22;

/** Narrowest and widest column, in characters; in a table that does not change there is more room. */
const NARROWEST = 5;
const WIDEST = 42;
const WIDEST_PLAIN = 110;

/** Rows from which the widths of columns are taken. */
const MEASURED_ROWS = 40;

interface Held {
  items: Item[];
  /** The result's count when it was held. */
  count: number;
}

export function LiveTable({ result }: { result: Result }) {
  const scroller = useRef<HTMLDivElement>(null);
  const [held, setHeld] = useState<Held | null>(null);
  const item = (age: number) => (held === null ? result.items.fromNewest(age) : held.items[age]);
  const length = held === null ? result.items.length : held.items.length;
  const columns = useWidths(result.schema, length, item, WIDEST);
  const scrolled = () => {
    const top = scroller.current?.scrollTop ?? 0;
    if (top === 0) setHeld(null);
    else hold();
  };
  const hold = () => setHeld((held) => held ?? { items: result.items.newestFirst(), count: result.count });
  // Rows that run away can be neither read nor copied: whoever points at one holds them.
  const { chosen, choose, onKeyDown } = useChoice(item, length, hold);
  const resume = () => {
    setHeld(null);
    scroller.current?.scrollTo({ top: 0 });
  };
  return (
    <div className="table-frame">
      {held !== null && (
        <button className="resume" onClick={resume}>
          held still · {count(result.count - held.count)} new · resume
        </button>
      )}
      <div className="table-scroll" ref={scroller} onScroll={scrolled} onKeyDown={onKeyDown} tabIndex={0} role="region" aria-label="Rows, newest first">
        <Grid schema={result.schema} columns={columns} length={length} item={item} scroller={scroller} chosen={chosen} onChoose={choose} changing={result.chart?.windowed !== false} />
      </div>
      {chosen !== null && <Details schema={result.schema} row={chosen} onClose={() => choose(null)} />}
      {result.items.evicted > 0 && (
        <p className="note">the newest {count(KEPT_ROWS)} rows are kept; {count(result.items.evicted)} older ones were let go</p>
      )}
    </div>
  );
}

/** A table that does not change. */
export function PlainTable({ columns: schema, rows }: { columns: Field[]; rows: Cell[][] }) {
  const scroller = useRef<HTMLDivElement>(null);
  const item = (at: number): Item | undefined => {
    const values = rows[at];
    return values && { kind: "row", number: at, values, x: null, op: null, partial: false };
  };
  const columns = useWidths(schema, rows.length, item, WIDEST_PLAIN);
  const { chosen, choose, onKeyDown } = useChoice(item, rows.length);
  return (
    <div className="table-frame">
      <div className="table-scroll" ref={scroller} onKeyDown={onKeyDown} tabIndex={0} role="region" aria-label="Rows">
        <Grid schema={schema} columns={columns} length={rows.length} item={item} scroller={scroller} chosen={chosen} onChoose={choose} changing={false} />
      </div>
      {chosen !== null && <Details schema={schema} row={chosen} onClose={() => choose(null)} />}
    </div>
  );
}

/** The row whose values are shown in full: Enter chooses the first, the arrows go on from it, Escape lets it go. */
function useChoice(item: (at: number) => Item | undefined, length: number, hold?: () => void) {
  const [chosen, setChosen] = useState<Row | null>(null);
  const choose = (row: Row | null) => {
    if (row !== null) hold?.();
    setChosen(row);
  };
  const step = (by: number) => {
    let at = 0;
    while (at < length && item(at)?.number !== chosen?.number) at += 1;
    for (at += by; at >= 0 && at < length; at += by) {
      const row = item(at);
      if (row?.kind === "row") return choose(row);
    }
  };
  const first = () => {
    for (let at = 0; at < length; at += 1) {
      const row = item(at);
      if (row?.kind === "row") return choose(row);
    }
  };
  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.key === "Enter" && chosen === null) first();
    else if (event.key === "ArrowDown" && chosen !== null) step(1);
    else if (event.key === "ArrowUp" && chosen !== null) step(-1);
    else if (event.key === "Escape" && chosen !== null) setChosen(null);
    else return;
    // Neither does the table scroll, nor does Escape stop the query.
    event.preventDefault();
  };
  return { chosen, choose, onKeyDown };
}

interface GridProps {
  schema: Field[];
  columns: string;
  length: number;
  item: (at: number) => Item | undefined;
  scroller: React.RefObject<HTMLDivElement | null>;
  /** The row whose whole values are shown. */
  chosen: Row | null;
  onChoose: (row: Row | null) => void;
  /** Rows that are told anew are set apart from final ones. */
  changing: boolean;
}

/** Every value of a row in full; nested ones on lines of their own. */
function Details({ schema, row, onClose }: { schema: Field[]; row: Row; onClose: () => void }) {
  return (
    <section className="details" aria-label="The chosen row">
      <button className="quiet" onClick={onClose} aria-label="Close the row">✕</button>
      <div className="details-scroll" tabIndex={0} role="group" aria-label="Its values">
        <dl>
          {schema.map((field, at) => {
            const value = row.values[at] ?? null;
            return (
              <div key={at}>
                <dt title={field.type}>{field.name}</dt>
                <dd className={value === null ? "empty" : undefined}>{indented(value)}</dd>
              </div>
            );
          })}
        </dl>
      </div>
    </section>
  );
}

function Grid({ schema, columns, length, item, scroller, chosen, onChoose, changing }: GridProps) {
  const virtualizer = useVirtualizer({
    count: length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 8,
  });
  return (
    <div role="table" aria-rowcount={length + 1} aria-colcount={schema.length} className="grid">
      <div role="row" aria-rowindex={1} className="grid-head" style={{ gridTemplateColumns: columns }}>
        {schema.map((field) => (
          <div role="columnheader" key={field.name} title={`${field.name} ${field.type}${field.nullable ? "" : " not null"}`} className={kindOf(field.type)}>
            {field.name}
          </div>
        ))}
      </div>
      <div role="rowgroup" className="grid-body" style={{ height: virtualizer.getTotalSize() }}>
        {virtualizer.getVirtualItems().map(({ index, start }) => {
          const shown = item(index);
          const place = { transform: `translateY(${start}px)`, gridTemplateColumns: columns };
          if (shown === undefined) return null;
          return (
            <div role="row" aria-rowindex={index + 2} key={shown.number} className={rowClass(shown, changing, chosen)} style={place} onPointerDown={(event) => event.button === 0 && shown.kind === "row" && onChoose(chosen?.number === shown.number ? null : shown)}>
              {shown.kind === "change" ? (
                <div role="cell" className="change-text" title={`behind position ${shown.position}`}>
                  above this: {inWords(shown.values)}
                </div>
              ) : shown.kind === "gap" ? (
                <div role="cell" className="gap-text">
                  gap: {shown.rows === null ? "an unknown number of" : count(shown.rows)} rows are missing here: {gapReason(shown.reason)}
                </div>
              ) : (
                <Cells schema={schema} row={shown} />
              )}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function Cells({ schema, row }: { schema: Field[]; row: Row }) {
  return schema.map((field, at) => {
    const value = row.values[at] ?? null;
    const empty = value === null ? " empty" : "";
    const partial = at === 0 && row.partial;
    return (
      <div role="cell" key={field.name} className={kindOf(field.type) + empty} title={partial ? `${wholeText(value)} · partial: the window began before the query did` : wholeText(value)}>
        {partial && <span className="partial-mark" aria-label="partial window">◐</span>}
        {shownText(value, field)}
      </div>
    );
  });
}

function rowClass(item: Item, changing: boolean, chosen: Row | null): string {
  if (item.kind !== "row") return `grid-row ${item.kind}`;
  const running = changing && item.op === "u" ? " running" : "";
  return `grid-row${running}${item.partial ? " partial" : ""}${chosen?.number === item.number ? " chosen" : ""}`;
}

/** Widths of the columns as CSS. They grow with what is shown and never shrink, so that columns do not jump. */
function useWidths(schema: Field[], length: number, item: (at: number) => Item | undefined, widest: number): string {
  const kept = useRef<{ schema: Field[]; widths: number[] }>({ schema: [], widths: [] });
  if (kept.current.schema !== schema) kept.current = { schema, widths: schema.map((field) => field.name.length) };
  const { widths } = kept.current;
  for (let at = 0; at < Math.min(length, MEASURED_ROWS); at += 1) {
    const shown = item(at);
    if (shown?.kind !== "row") continue;
    schema.forEach((field, column) => {
      const mark = column === 0 && shown.partial ? 2 : 0;
      widths[column] = Math.max(widths[column]!, shownText(shown.values[column] ?? null, field).length + mark);
    });
  }
  return widths.map((width) => `${Math.min(Math.max(width, NARROWEST), widest) + 2}ch`).join(" ");
}
