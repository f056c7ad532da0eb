// The look-up of a project or a job. The token is in this module's memory only.

import { make, number } from "./format.js";
import { showMatrix } from "./table.js";

const REFRESH_INTERVAL = 5000;

const input = (name) => document.getElementById(name);

let shown = null;
let timer = null;
let isQuiet = () => false;

// While `isQuietNow()` is true, nothing is asked again.
export function enableLookUp(isQuietNow) {
  isQuiet = isQuietNow;
  input("look-up").hidden = false;
  input("look-up-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const asked = { project: input("project").value, job: input("job").value, family: input("family").value, token: input("token").value };
    input("look-up-region").hidden = true;
    say("Asking…");
    shown = asked;
    ask(asked, true);
  });
  // The token ends with the page; a page from the browser's cache must not show it again.
  window.addEventListener("pagehide", () => {
    clearTimeout(timer);
    shown = null;
    input("token").value = "";
  });
}

async function ask(asked, isFirst) {
  clearTimeout(timer);
  const query = new URLSearchParams({ family: asked.family });
  if (asked.job !== "") query.set("job_id", asked.job);
  try {
    const headers = { "X-Auth-Token": asked.token };
    const response = await fetch(`/subjobs/v1/${encodeURIComponent(asked.project)}/summary?${query}`, { headers });
    const answer = await response.json();
    if (shown !== asked) return;
    if (!response.ok) return fail(`${response.status}: ${answer.error_msg ?? "the server refuses the look-up"}`);
    showResult(asked, answer, isFirst);
  } catch (error) {
    if (shown !== asked) return;
    // A header cannot have every character that can be typed.
    if (isFirst) return fail(error instanceof TypeError && /header|ISO-8859-1|ByteString/i.test(error.message) ? "The token has a character that a header cannot have." : "The server gives no answer.");
    say("The server gives no answer: trying again.");
  }
  askLater(asked);
}

// Asks again, unless something else is asked meanwhile. A page that cannot be seen, or is paused, waits.
function askLater(asked) {
  timer = setTimeout(() => {
    if (shown !== asked) return;
    if (isQuiet()) askLater(asked);
    else ask(asked, false);
  }, REFRESH_INTERVAL);
}

function showResult(asked, answer, isFirst) {
  const table = input("look-up-result");
  const what = asked.job === "" ? `project ${asked.project}` : `job ${asked.job} of project ${asked.project}`;
  table.caption.replaceChildren(`${asked.family} subtasks of ${what}, revision ${answer.revision}`);
  showMatrix(table, answer.by_type, answer.by_status, answer.total);
  input("look-up-region").hidden = false;
  const text = answer.total === 0 ? "No subtasks." : `${number(answer.total)} subtasks.`;
  if (isFirst || input("look-up-status").textContent !== text) say(text);
}

function fail(text) {
  shown = null;
  input("look-up-region").hidden = true;
  say(text, true);
}

function say(text, hasFailed = false) {
  const status = input("look-up-status");
  status.toggleAttribute("data-failed", hasFailed);
  status.replaceChildren(hasFailed ? make("span", {}, text) : text);
}
