// Small lines: the samples of ten minutes, the newest at the right.

import { setText } from "./format.js";

const SAMPLES = 120;
const HEIGHT = 32;
const MARGIN = 2;

// Draws a line into the card, with gaps where nothing is known, and says its range.
export function draw(card, name, values, format) {
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const range = known.length < 2 ? "" : low === high ? `always ${format(low)}` : `${format(low)} to ${format(high)}`;
  setText(card.querySelector(".range"), range);
  const svg = card.querySelector("svg");
  svg.setAttribute("aria-label", range === "" ? `${name}: no history yet` : `${name} over the last 10 minutes: ${format(low)} to ${format(high)}`);
  svg.querySelector("path").setAttribute("d", path(values, low, high));
}

function path(values, low, high) {
  const first = SAMPLES - values.length;
  const y = (value) => (high === low ? HEIGHT / 2 : HEIGHT - MARGIN - ((value - low) / (high - low)) * (HEIGHT - 2 * MARGIN));
  let isDrawing = false;
  let text = "";
  values.forEach((value, at) => {
    if (value !== null) text += `${isDrawing ? "L" : "M"}${first + at} ${y(value).toFixed(1)}`;
    isDrawing = value !== null;
  });
  return text;
}
