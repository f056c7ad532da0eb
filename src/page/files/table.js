// The table of types by statuses.

import { STATUSES, make, number, setText } from "./format.js";

// Shows counts by type and status in a table whose head is there already.
export function showMatrix(table, byType, byStatus, total) {
  const body = table.tBodies[0];
  const names = Object.keys(byType ?? {});
  const shown = [...body.rows].map((row) => row.dataset.type);
  if (names.join() !== shown.join()) body.replaceChildren(...names.map((name) => row(name, name)));
  for (const line of body.rows) {
    const counts = byType[line.dataset.type];
    fill(line, STATUSES.map((status) => counts[status] ?? 0));
  }
  if (table.tFoot.rows.length === 0) table.tFoot.append(row("", "all types"));
  const sums = STATUSES.map((status) => (byStatus ? (byStatus[status] ?? 0) : null));
  fill(table.tFoot.rows[0], sums, total);
}

function row(type, title) {
  const cells = [...STATUSES, "all"].map(() => make("td"));
  return make("tr", { "data-type": type }, make("th", { scope: "row" }, title), ...cells);
}

function fill(line, counts, total = counts.reduce((sum, count) => sum + count, 0)) {
  [...counts, total].forEach((count, at) => {
    const cell = line.cells[at + 1];
    setText(cell, number(count));
    cell.classList.toggle("zero", count === 0);
  });
}
