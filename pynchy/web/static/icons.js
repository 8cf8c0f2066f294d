// One stroke each, so that they take the colour of the text beside them.

import { s } from "./dom.js";

function icon(...paths) {
  return () =>
    s(
      "svg",
      { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" },
      ...paths.map((d) => s("path", { d })),
    );
}

export const pulse = icon("M3 12h4l3-8 4 16 3-8h4");
export const bubble = icon("M4 5h16v11H10l-5 4v-4H4z");
export const clock = icon("M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 7v5l3 2");
export const bars = icon("M4 20V10", "M10 20V4", "M16 20v-8", "M21 20H3");
export const lines = icon("M4 6h16", "M4 12h10", "M4 18h13");
export const shield = icon("M12 3l8 3v6c0 5-3.5 8-8 9-4.5-1-8-4-8-9V6z", "M9 12l2 2 4-4");
