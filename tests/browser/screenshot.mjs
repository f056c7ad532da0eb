// The screenshot of the README: the page of a demo that has run for some time.
//
//   screenshot.mjs FILE SECONDS

import { setTimeout } from "node:timers/promises";

import { connection, launch, open } from "./browser.mjs";
import { DEMO_PROJECT, Server, TOKEN } from "./server.mjs";

const [file, seconds] = process.argv.slice(2);
const server = await Server.start("--demo");
const browser = await launch();
try {
  // Callers who count, a worker, and now and then somebody without a token.
  const end = Date.now() + Number(seconds) * 1000;
  for (let turn = 0; Date.now() < end; turn++) {
    const counts = 2 + Math.round(4 + 4 * Math.sin(turn / 60));
    const headers = turn % 37 === 0 ? {} : { "X-Auth-Token": TOKEN };
    const url = `http://${server.public}/v1/${DEMO_PROJECT}/app-server-sub-jobs/actions/count?status=RUNNING`;
    await Promise.all(Array.from({ length: counts }, async () => (await fetch(url, { headers })).text()));
    if (turn % 3 === 0) await server.report(["worker-1", "worker-job", "CREATE_SERVER", turn % 2 === 0 ? "RUNNING" : "SUCCESS"]);
    await setTimeout(500);
  }
  const { page } = await open(browser, server.page, { viewport: { width: 1280, height: 690 } });
  await connection(page, "Live");
  await page.waitForFunction(() => document.querySelector("#by-status path").getAttribute("d") !== "");
  await page.screenshot({ path: file });
} finally {
  await browser.close();
  await server.remove();
}
