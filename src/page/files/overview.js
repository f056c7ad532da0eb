// Shows a reading of the server.

import { draw } from "./chart.js";
import { STORES, field, make, moment, number, rate, yes } from "./format.js";
import { showMatrix } from "./table.js";

const RATES = { reports: "reports", counts: "counts", requests: "public requests", refusals: "refusals" };

export function show(overview) {
  field("version", overview.version);
  field("state", overview.state);
  field("reason", overview.reason ?? "");
  document.getElementById("state").dataset.state = overview.state;
  field("at", moment(overview.at));
  showCards(overview);
  showMatrix(document.getElementById("matrix"), overview.by_type, overview.by_status, overview.total);
  const empty = overview.types_without_subtasks;
  document.getElementById("empty-types").hidden = empty.length === 0;
  field("empty-types-count", number(empty.length));
  field("empty-types", empty.join(", "));
  field("store", STORES[overview.store] ?? overview.store);
  field("reports-storable", yes(overview.reports_storable));
  field("last-report", moment(overview.last_report_at));
  field("drift", number(overview.drift));
  field("verifications", number(overview.verifications));
  field("started", moment(overview.started_at));
  showRefusals(overview.refusals);
  if (overview.history) showHistory(overview.history);
}

function cards(list) {
  return [...document.getElementById(list).children];
}

function showCards(overview) {
  for (const card of cards("by-status")) {
    const { name } = card.dataset;
    const count = name === "all" ? overview.total : overview.by_status?.[name];
    card.querySelector(".number").textContent = number(count);
  }
  for (const card of cards("rates")) card.querySelector(".number").textContent = rate(overview.rates[card.dataset.name]);
}

function showHistory(history) {
  const lines = history.by_status;
  const samples = Object.values(lines)[0].map((_, at) => Object.values(lines).map((line) => line[at]));
  const all = samples.map((counts) => (counts.includes(null) ? null : counts.reduce((sum, count) => sum + count, 0)));
  for (const card of cards("by-status")) {
    const { name } = card.dataset;
    draw(card, name, name === "all" ? all : lines[name], number);
  }
  for (const card of cards("rates")) draw(card, RATES[card.dataset.name], history.rates[card.dataset.name], rate);
}

function showRefusals(refusals) {
  const rows = Object.entries(refusals).map(([reason, count]) => make("tr", {}, make("th", { scope: "row" }, reason), make("td", {}, number(count))));
  if (rows.length === 0) rows.push(make("tr", {}, make("td", { colspan: "2" }, "none")));
  document.querySelector("#refusals tbody").replaceChildren(...rows);
}
