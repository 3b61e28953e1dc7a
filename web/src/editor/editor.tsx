/** The SQL editor: colours, completion from the live catalog, mistakes at their places. */

import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, type CompletionContext, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { sql } from "@codemirror/lang-sql";
import { bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { linter } from "@codemirror/lint";
import { EditorState, Prec, StateEffect } from "@codemirror/state";
import { drawSelection, EditorView, hoverTooltip, keymap, lineNumbers, placeholder } from "@codemirror/view";
import { useEffect, useRef } from "react";
import type { Catalog } from "../catalog";
import type { Pane } from "../pane";
import { ApiError, check, type Checked } from "../rest";
import { explainAt, suggest } from "../state/completion";
import { toIndices } from "../state/spans";
import type { Diagnostic } from "../wire";
import { COLOURS, LOOK, SQUILLA } from "./language";

/** Pause in typing before the text is checked. */
const CHECK_AFTER_MS = 300;

/** The catalog has changed: the text is to be checked again. */
const recheck = StateEffect.define<null>();

/** Message, notes and help of a mistake, as shown beside it. */
export function explanation(mistake: Diagnostic): string {
  const notes = (mistake.notes ?? []).map((note) => `note: ${note}`);
  const help = mistake.help === undefined ? [] : [`help: ${mistake.help}`];
  return [mistake.message, ...notes, ...help].join("\n");
}

interface Props {
  pane: Pane;
  catalog: Catalog;
  label: string;
  onRun: () => void;
}

export function Editor({ pane, catalog, label, onRun }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const run = useRef(onRun);
  run.current = onRun;
  const { revision } = pane;

  useEffect(() => {
    const parent = holder.current!;
    const view = new EditorView({
      parent,
      state: EditorState.create({ doc: pane.sql, extensions: extensions(pane, catalog, label, () => run.current()) }),
    });
    let streams = catalog.streams.map((stream) => stream.name).join();
    const stopListening = catalog.onChange(() => {
      const now = catalog.streams.map((stream) => stream.name).join();
      if (now !== streams) view.dispatch({ effects: recheck.of(null) });
      streams = now;
    });
    return () => {
      stopListening();
      view.destroy();
    };
  }, [pane, catalog, label, revision]);

  return <div className="editor" ref={holder} />;
}

function extensions(pane: Pane, catalog: Catalog, label: string, run: () => void) {
  const ours = Prec.highest(
    keymap.of([
      // An open suggestion would take the Escape that is to stop the query.
      { key: "Mod-Enter", run: (view) => (closeCompletion(view), run(), true) },
      // Only while a suggestion is open; otherwise Tab leaves the editor, as everywhere.
      { key: "Tab", run: acceptCompletion },
    ]),
  );
  return [
    ours,
    lineNumbers(),
    history(),
    drawSelection(),
    bracketMatching(),
    closeBrackets(),
    EditorView.lineWrapping,
    sql({ dialect: SQUILLA }),
    syntaxHighlighting(COLOURS),
    LOOK,
    placeholder("SELECT …   Ctrl-Enter runs, Ctrl-Space completes"),
    autocompletion({ override: [(context) => complete(context, catalog)], icons: false }),
    hoverTooltip((view, at) => hover(view, at, catalog)),
    linter((view) => mistakes(view, pane), {
      delay: CHECK_AFTER_MS,
      needsRefresh: (update) => update.transactions.some((transaction) => transaction.effects.some((effect) => effect.is(recheck))),
    }),
    keymap.of([...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...defaultKeymap]),
    EditorView.contentAttributes.of({ "aria-label": label, spellcheck: "false" }),
    EditorView.updateListener.of((update) => {
      if (update.docChanged) pane.typed(update.state.doc.toString());
    }),
  ];
}

async function complete(context: CompletionContext, catalog: Catalog) {
  const text = context.state.doc.toString();
  const found = suggest(text, context.pos, context.explicit, catalog.streams, await catalog.completion());
  return found && { from: found.from, options: found.options, validFor: /^\w*$/ };
}

/** What the word under the pointer is. */
async function hover(view: EditorView, at: number, catalog: Catalog) {
  const text = view.state.doc.toString();
  const found = explainAt(text, at, catalog.streams, await catalog.completion());
  if (found === null) return null;
  const create = () => {
    const dom = document.createElement("div");
    dom.className = "cm-explained";
    dom.textContent = found.text;
    return { dom };
  };
  return { pos: found.from, end: found.to, above: true, create };
}

async function mistakes(view: EditorView, pane: Pane) {
  const text = view.state.doc.toString();
  let found: Checked = { diagnostics: [], parameters: [] };
  try {
    if (text.trim() !== "") found = await check(text);
  } catch (error) {
    // A server that is away says nothing about the text; the connection's state tells that it is away.
    if (!(error instanceof ApiError)) throw error;
  }
  if (view.state.doc.toString() !== text) return [];
  pane.checked(found);
  return found.diagnostics.map((mistake) => ({
    ...toIndices(text, mistake.span ?? { start: 0, end: 0 }),
    severity: "error" as const,
    message: explanation(mistake),
  }));
}
