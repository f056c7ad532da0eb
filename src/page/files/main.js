// The page, once it is loaded.

import { setText } from "./format.js";
import { Live } from "./live.js";
import { enableLookUp } from "./lookup.js";
import { show } from "./overview.js";

const TEXTS = { live: "Live", polling: "Asking every 2 seconds", lost: "No answer, trying again; numbers of", paused: "Paused" };

const connection = document.getElementById("connection");
const pause = document.getElementById("pause");
let isPaused = false;

// Says how the page gets its numbers. Returns what it said before.
function say(how) {
  const before = connection.dataset.how;
  connection.dataset.how = how;
  setText(connection, TEXTS[how]);
  return before;
}

const live = new Live(show, say);

// A page that cannot be seen asks for nothing.
function follow() {
  if (isPaused || document.hidden) live.stop();
  else live.start();
}

pause.hidden = false;
for (const element of document.querySelectorAll("[data-without-script]")) element.hidden = true;
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  setText(pause, isPaused ? "Resume" : "Pause");
  follow();
});
document.addEventListener("visibilitychange", follow);
enableLookUp(() => isPaused || document.hidden);
follow();
