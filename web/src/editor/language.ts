/** The words of the language, for colours. What a statement means is the server's business. */

import { SQLDialect } from "@codemirror/lang-sql";
import { HighlightStyle } from "@codemirror/language";
import { EditorView } from "@codemirror/view";
import { tags } from "@lezer/highlight";

const KEYWORDS = `all alter analyze and anti any as asc at between bernoulli by case cascade changes close create cube current day days
  delete desc describe descriptor distinct drop else emit end escape every except exists explain false fetch filter first
  following fill for from full grace group having hour hours if ilike in inner insert intersect interval into is join key
  kill last late lateral left like limit minute minutes month months not null nulls offset on only or order outer over partition
  pause preceding previous primary proctime qualify query queries range recursive replace repeatable resume right rollup row rows second seconds select sets show
  similar since sink sinks source sources stream streams table tablesample then ties to true unbounded union unnest
  until using values view views watermark when where window with within year years zone jobs`;

const TYPES = `array bigint binary bool boolean bytea char character date decimal double float int integer json numeric
  precision real smallint string struct text time timestamp timestamptz tinyint varchar`;

const WINDOWS = "tumble hop session cumulate count_window window_start window_end window_time now";

export const SQUILLA = SQLDialect.define({
  keywords: KEYWORDS.replace(/\s+/g, " "),
  types: TYPES.replace(/\s+/g, " "),
  builtin: WINDOWS,
  doubleDollarQuotedStrings: false,
  operatorChars: "+-*/<>=~!@#%^&|`?",
});

export const COLOURS = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--code-keyword)" },
  { tag: [tags.typeName, tags.standard(tags.name)], color: "var(--code-type)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--code-number)" },
  { tag: tags.comment, color: "var(--code-comment)" },
]);

export const LOOK = EditorView.theme({
  "&": { backgroundColor: "transparent", color: "var(--text)", fontSize: "13px" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5" },
  ".cm-content": { caretColor: "var(--text)", padding: "6px 0" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--faint)", border: "none" },
  ".cm-activeLineGutter, .cm-activeLine": { backgroundColor: "transparent" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--selection)",
  },
  ".cm-matchingBracket": { backgroundColor: "var(--selection)", outline: "none" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--text)", border: "1px solid var(--line)" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", fontSize: "12.5px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-completionDetail": { opacity: "0.75", fontStyle: "normal", marginLeft: "1.2em" },
  ".cm-completionInfo": { whiteSpace: "pre-wrap", maxWidth: "26em", padding: "6px 8px" },
  ".cm-explained": { whiteSpace: "pre-wrap", maxWidth: "46em", padding: "6px 8px", maxHeight: "18em", overflow: "auto", fontSize: "12px" },
  ".cm-diagnostic": { whiteSpace: "pre-wrap", padding: "4px 8px" },
  ".cm-lintRange-error": {
    backgroundImage: "none",
    textDecoration: "underline wavy var(--bad)",
    textUnderlineOffset: "3px",
    textDecorationSkipInk: "none",
  },
});
