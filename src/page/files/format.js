// Numbers and times as texts. The server writes the first ones in the same form.

export const STATUSES = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];

export function number(value) {
  return value === null || value === undefined ? "unknown" : value.toLocaleString("en-US");
}

export function rate(value) {
  return `${value.toLocaleString("en-US", { maximumFractionDigits: 2 })}/s`;
}

// The moment to the second, in UTC.
export function moment(text) {
  return text ? `${text.slice(0, 19).replace("T", " ")} UTC` : "never";
}

export const STORES = { memory: "in memory only", data_dir: "in a data directory", postgres: "in a PostgreSQL database" };

export function yes(value) {
  return value ? "yes" : "no";
}

// Changes a text only if it differs, so that selections and screen readers are not disturbed.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function field(name, text) {
  for (const element of document.querySelectorAll(`[data-field="${name}"]`)) setText(element, text);
}

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
