/** Draws once a frame: however many messages came, each view is asked to draw at most once. */

/** Something that changes and is drawn. */
export class Changing {
  #version = 0;
  readonly #listeners = new Set<() => void>();

  get version(): number {
    return this.#version;
  }

  /** Calls back after changes, once a frame; the answer ends that. */
  onChange = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** It has changed: to be drawn with the next frame. */
  protected changed(): void {
    nextFrame(this.#tell);
  }

  readonly #tell = (): void => {
    this.#version += 1;
    for (const listener of this.#listeners) listener();
  };
}

/** Draws that wait for the next frame. */
const waiting = new Set<() => void>();

function nextFrame(draw: () => void): void {
  if (waiting.size === 0) requestAnimationFrame(drawAll);
  waiting.add(draw);
}

function drawAll(): void {
  const draws = [...waiting];
  waiting.clear();
  for (const draw of draws) draw();
}
