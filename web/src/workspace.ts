/** The panes, and the address that reopens them. */

import { Changing } from "./frame";
import { Pane } from "./pane";
import { fromFragment, type Linked, onlyReads, toFragment } from "./state/link";
import type { Connection } from "./socket";

/** Panes side by side; more would be too narrow to read. */
export const MOST_PANES = 4;

export class Workspace extends Changing {
  panes: Pane[] = [];
  readonly #connection: Connection;
  #made = 0;

  constructor(connection: Connection) {
    super();
    this.#connection = connection;
  }

  get full(): boolean {
    return this.panes.length >= MOST_PANES;
  }

  /** Opens the queries of an address, and runs those that only read. Says whether there were any. */
  openLink(fragment: string): boolean {
    const queries = fromFragment(fragment).slice(0, MOST_PANES);
    if (queries.length === 0) return false;
    this.#show(queries);
    for (const pane of this.panes) {
      if (onlyReads(pane.sql)) void pane.start();
    }
    return true;
  }

  /** Shows these queries and runs them one after the other, since a later one may read what an earlier one creates. */
  async open(queries: string[]): Promise<void> {
    const panes = this.#show(queries.slice(0, MOST_PANES).map((sql) => ({ sql, values: {} })));
    this.remember();
    for (const pane of panes) await pane.start();
  }

  /** Adds a pane with this text; the last one is given up when there are too many. */
  add(sql: string): Pane {
    if (this.full) this.panes.pop()?.stop();
    const pane = this.#pane(sql);
    this.panes = [...this.panes, pane];
    this.changed();
    return pane;
  }

  close(pane: Pane): void {
    pane.stop();
    this.panes = this.panes.filter((other) => other !== pane);
    if (this.panes.length === 0) this.panes = [this.#pane("")];
    this.remember();
    this.changed();
  }

  /** Puts the queries into the address, so that a reload or a copied link reopens them. */
  remember(): void {
    const fragment = toFragment(this.panes.map((pane) => pane.linked));
    history.replaceState(null, "", fragment === "" ? location.pathname : `#${fragment}`);
  }

  #show(queries: Linked[]): Pane[] {
    for (const pane of this.panes) pane.stop();
    this.panes = queries.map(({ sql, values }) => {
      const pane = this.#pane(sql);
      for (const [name, text] of Object.entries(values)) pane.values.set(name, text);
      return pane;
    });
    this.changed();
    return this.panes;
  }

  #pane(sql: string): Pane {
    this.#made += 1;
    return new Pane(this.#made, sql, this.#connection);
  }
}
