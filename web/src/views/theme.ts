/** Light and dark: the system's choice unless the reader has one, which is kept in the browser. */

import { useEffect, useState, useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";

const KEY = "squilla.theme";
const dark = () => matchMedia("(prefers-color-scheme: dark)");

/** The choice that the button makes next. */
export function nextTheme(theme: Theme): Theme {
  return theme === "system" ? "light" : theme === "light" ? "dark" : "system";
}

function kept(): Theme {
  const theme = localStorage.getItem(KEY);
  return theme === "light" || theme === "dark" ? theme : "system";
}

/** The reader's choice, what is shown of it, and how to change it. */
export function useTheme() {
  const [theme, setTheme] = useState<Theme>(kept);
  const systemDark = useSyncExternalStore(
    (changed) => {
      const query = dark();
      query.addEventListener("change", changed);
      return () => query.removeEventListener("change", changed);
    },
    () => dark().matches,
  );
  useEffect(() => {
    if (theme === "system") {
      localStorage.removeItem(KEY);
      delete document.documentElement.dataset["theme"];
    } else {
      localStorage.setItem(KEY, theme);
      document.documentElement.dataset["theme"] = theme;
    }
  }, [theme]);
  const shown = theme === "system" ? (systemDark ? "dark" : "light") : theme;
  return { theme, shown, setTheme };
}
