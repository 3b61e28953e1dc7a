/** Draws a view again when what it shows has changed. */

import { useSyncExternalStore } from "react";
import type { Changing } from "../frame";

/** The version of what is shown; the view is drawn again when it grows. */
export function useChanges(shown: Changing): number {
  return useSyncExternalStore(shown.onChange, () => shown.version);
}
