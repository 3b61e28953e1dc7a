import { expect, test } from "vitest";
import { hasStart } from "./start";

test.each([
  ["SELECT * FROM plays SINCE INTERVAL '5 minutes'", true],
  ["select n from bids since earliest where n > 0", true],
  ["SELECT * FROM plays SINCE LATEST", false],
  ["SELECT 'since' AS a, \"since\" FROM plays -- since", false],
  ["SELECT sincere FROM plays", false],
])("%s", (sql, wanted) => expect(hasStart(sql)).toBe(wanted));
