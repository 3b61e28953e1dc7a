/** The newest rows of a result, bounded; rows with a key are replaced in place. */

/** An item of a ring: it is at the place of the first item with its key. */
interface Keyed<Item> {
  key: string | null;
  item: Item;
}

/** Holds the newest items; the oldest go when it is full. */
export class Ring<Item> {
  readonly #capacity: number;
  /** Up to twice the capacity; what lies before the last `capacity` items is gone. */
  #entries: Keyed<Item>[] = [];
  /** Place of the first entry, counted since the beginning. */
  #base = 0;
  readonly #places = new Map<string, number>();
  #evicted = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get length(): number {
    return Math.min(this.#entries.length, this.#capacity);
  }

  /** How many items went since the ring was full. */
  get evicted(): number {
    return this.#evicted;
  }

  /** The item that came `age` items before the newest. */
  fromNewest(age: number): Item | undefined {
    return age < this.length ? this.#entries[this.#entries.length - 1 - age]?.item : undefined;
  }

  push(item: Item): void {
    this.#append({ key: null, item });
  }

  /** Puts the item in the place of the one with its key, or at the end. */
  upsert(key: string, item: Item): void {
    const place = this.#places.get(key);
    if (place === undefined) {
      this.#places.set(key, this.#base + this.#entries.length);
      this.#append({ key, item });
    } else {
      this.#entries[place - this.#base] = { key, item };
    }
  }

  /** Takes the item with this key out. */
  remove(key: string): void {
    const place = this.#places.get(key);
    if (place === undefined) return;
    this.#places.delete(key);
    this.#cut(); // else an item that went would come back into view
    this.#entries.splice(place - this.#base, 1);
    for (const [at, entry] of this.#entries.entries()) {
      if (entry.key !== null && at >= place - this.#base) this.#places.set(entry.key, this.#base + at);
    }
  }

  /** The items, newest first, as they are now. */
  newestFirst(limit = this.#capacity): Item[] {
    const from = Math.max(0, this.#entries.length - Math.min(limit, this.#capacity));
    return this.#entries.slice(from).reverse().map((entry) => entry.item);
  }

  clear(): void {
    this.#entries = [];
    this.#base = 0;
    this.#places.clear();
    this.#evicted = 0;
  }

  #append(entry: Keyed<Item>): void {
    this.#entries.push(entry);
    const over = this.#entries.length - this.#capacity;
    if (over <= 0) return;
    this.#evicted += 1;
    const gone = this.#entries[over - 1]!;
    if (gone.key !== null && this.#places.get(gone.key) === this.#base + over - 1) this.#places.delete(gone.key);
    // Cutting once in `capacity` items keeps a push cheap.
    if (over >= this.#capacity) this.#cut();
  }

  #cut(): void {
    const over = this.#entries.length - this.#capacity;
    if (over <= 0) return;
    this.#entries = this.#entries.slice(over);
    this.#base += over;
  }
}
