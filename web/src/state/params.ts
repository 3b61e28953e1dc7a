/** Parameters of a script, `$name`, whose values are typed beside it. */

/** What is no code: texts, quoted names and comments. */
const QUOTED = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\//g;
const PARAMETER = /\$([A-Za-z_]\w*)/g;
const NUMBER = /^-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** Names of the parameters, each once, in the order of the text. */
export function parameterNames(sql: string): string[] {
  const code = sql.replace(QUOTED, " ");
  return [...new Set([...code.matchAll(PARAMETER)].map(([, name]) => name!))];
}

/** The values of those parameters that have one: a number when it reads as one, else a text. */
export function parameterValues(names: string[], typed: ReadonlyMap<string, string>): Record<string, string | number> {
  const given = names.flatMap((name) => {
    const text = typed.get(name);
    return text === undefined ? [] : [[name, NUMBER.test(text) ? Number(text) : text] as const];
  });
  return Object.fromEntries(given);
}
