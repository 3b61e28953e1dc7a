import { describe, expect, test } from "vitest";
import { Ring } from "./ring";

describe("ring", () => {
  test("keeps the newest items and counts those that went", () => {
    const ring = new Ring<number>(3);
    for (let item = 0; item < 10; item += 1) {
      ring.push(item);
      expect(ring.length).toBe(Math.min(item + 1, 3));
    }
    expect(ring.newestFirst()).toEqual([9, 8, 7]);
    expect(ring.newestFirst(2)).toEqual([9, 8]);
    expect([ring.fromNewest(0), ring.fromNewest(2), ring.fromNewest(3)]).toEqual([9, 7, undefined]);
    expect(ring.evicted).toBe(7);
  });

  test("an upsert keeps the place of its key", () => {
    const ring = new Ring<string>(10);
    ring.upsert("a", "a1");
    ring.upsert("b", "b1");
    ring.upsert("a", "a2");
    expect(ring.newestFirst()).toEqual(["b1", "a2"]);
  });

  test("a key that went is appended anew", () => {
    const ring = new Ring<string>(2);
    for (const key of ["a", "b", "c", "d", "e"]) ring.upsert(key, `${key}1`);
    ring.upsert("a", "a2");
    ring.upsert("e", "e2");
    expect(ring.newestFirst()).toEqual(["a2", "e2"]);
    expect(ring.evicted).toBe(4);
  });

  test("removal keeps the other keys' places", () => {
    const ring = new Ring<string>(10);
    for (const key of ["a", "b", "c"]) ring.upsert(key, `${key}1`);
    ring.remove("a");
    ring.remove("nothing");
    ring.upsert("c", "c2");
    ring.upsert("b", "b2");
    expect(ring.newestFirst()).toEqual(["c2", "b2"]);
  });

  test("agrees with a plain list through many random steps", () => {
    const seed = 7;
    let state = seed;
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((state / 2_147_483_648) * below);
    };
    const ring = new Ring<string>(5);
    let plain: { key: string; item: string }[] = [];
    for (let step = 0; step < 5000; step += 1) {
      const key = `k${random(9)}`;
      const item = `${key}@${step}`;
      const found = plain.find((entry) => entry.key === key);
      if (random(5) === 0) {
        ring.remove(key);
        plain = plain.filter((entry) => entry !== found);
      } else {
        ring.upsert(key, item);
        if (found) found.item = item;
        else plain = [...plain, { key, item }].slice(-5);
      }
      const expected = plain.map((entry) => entry.item).reverse();
      expect(ring.newestFirst(), `seed ${seed}, step ${step}`).toEqual(expected);
    }
  });
});
