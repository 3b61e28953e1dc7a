/** Times and amounts, as numbers and as text for people. Timestamps are RFC 3339 in UTC with up to nine digits. */

/** Milliseconds since 1970 of a timestamp or date; null when it is neither. */
export function millisecondsOf(value: unknown): number | null {
  if (typeof value !== "string") return null;
  const milliseconds = Date.parse(value);
  return Number.isNaN(milliseconds) ? null : milliseconds;
}

/** `2013-01-03T14:05:00.250Z` as `2013-01-03 14:05:00.250`. */
export function readable(timestamp: string): string {
  return timestamp.replace("T", " ").replace(/Z$/, "");
}

/** A duration for a counter: `12 ms`, `3.4 s`, `2 min`, `5 h`, `3 d`. */
export function duration(milliseconds: number): string {
  const units: [number, string][] = [[86_400_000, "d"], [3_600_000, "h"], [60_000, "min"], [1000, "s"]];
  for (const [size, unit] of units) {
    if (milliseconds < size) continue;
    const amount = milliseconds / size;
    return `${amount < 10 ? amount.toFixed(1).replace(/\.0$/, "") : Math.round(amount)} ${unit}`;
  }
  return `${Math.round(milliseconds)} ms`;
}

/** A count for a counter: `999`, `12.3 k`, `4.5 M`. */
export function count(amount: number): string {
  const units: [number, string][] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [size, unit] of units) {
    if (amount >= size * 10 || (size > 1e3 && amount >= size)) {
      const scaled = amount / size;
      return `${scaled < 100 ? scaled.toFixed(1).replace(/\.0$/, "") : Math.round(scaled)} ${unit}`;
    }
  }
  return Number.isInteger(amount) || amount >= 100 ? String(Math.round(amount)) : amount.toFixed(1);
}

/** A value on an axis or in a legend: bytes where the name says so, else short numbers with up to four digits. */
export function measured(value: number, name: string): string {
  if (/bytes/i.test(name)) return value < 0 ? `-${bytes(-value)}` : bytes(value);
  const size = Math.abs(value);
  if (size >= 10_000) return value < 0 ? `-${count(-value)}` : count(value);
  if (size !== 0 && size < 0.001) return value.toPrecision(3);
  return String(Number(value.toPrecision(Number.isInteger(value) ? 6 : 4)));
}

/** Bytes for a counter: `512 B`, `3.4 MiB`. */
export function bytes(amount: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let scaled = amount;
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return `${unit === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[unit]}`;
}
