// What a person sees and does on the page.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { assertAccessible, connection, launch, matrix, open } from "./browser.mjs";
import { DEMO_PROJECT, PROJECT, Server, TOKEN } from "./server.mjs";

const PHONE = { width: 390, height: 844 };

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

// A test with a server of its own, which has some subtasks.
function testWithServer(name, run, options) {
  test(name, async () => {
    const server = await Server.startOnDisk(options);
    try {
      await server.report(
        ["1", "job-1", "CREATE_SERVER", "RUNNING"],
        ["2", "job-1", "CREATE_SERVER", "SUCCESS"],
        ["3", "job-2", "DELETE_SERVER", "FAILED"],
        ["4", "job-3", "BUILD_IMAGE", "WAITING", { family: "image" }],
      );
      await run(server);
    } finally {
      await server.remove();
    }
  });
}

function testWithDemo(name, run) {
  test(name, async () => {
    const demo = await Server.start("--demo");
    try {
      await run(demo);
    } finally {
      await demo.remove();
    }
  });
}

// Waits until the table shows this many subtasks of a type and status.
function awaitCell(page, type, status, count) {
  return page.waitForFunction(
    ([type, status, count]) => {
      const table = document.getElementById("matrix");
      const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === status);
      const row = [...table.tBodies[0].rows].find((row) => row.cells[0].textContent === type);
      return row?.cells[column].textContent === String(count);
    },
    [type, status, count],
  );
}

async function assertShowsMetrics(page, server) {
  const counts = await server.metrics();
  const { types, sums } = await matrix(page);
  const withoutSums = Object.entries(types).map(([type, { all, ...counts }]) => {
    assert.equal(all, Object.values(counts).reduce((sum, count) => sum + count, 0), type);
    return [type, counts];
  });
  assert.deepEqual(Object.fromEntries(withoutSums), counts);
  const all = Object.values(counts).flatMap((counts) => Object.values(counts));
  assert.equal(sums.all, all.reduce((sum, count) => sum + count, 0));
}

// They mostly wait, so several run at once.
describe("the page", { concurrency: 4 }, () => {
  testWithServer("the numbers are those of the API and move when a report comes", async (server) => {
    const { page, complaints, close } = await open(browser, server.page);
    await connection(page, "Live");
    await assertShowsMetrics(page, server);
    await server.report(["5", "job-4", "REJOIN_DOMAIN", "ROLLBACK"], ["1", "job-1", "CREATE_SERVER", "SUCCESS"]);
    await awaitCell(page, "CREATE_SERVER", "SUCCESS", 2);
    await awaitCell(page, "REJOIN_DOMAIN", "ROLLBACK", 1);
    await assertShowsMetrics(page, server);
    assert.equal(await page.textContent("#by-status [data-name=SUCCESS] .number"), "2");
    assert.equal(await page.textContent("#state [data-field=state]"), "ready");
    assert.deepEqual(complaints, []);
    await close();
  });

  testWithServer("the page works over TLS, with HTTP/2", async (server) => {
    const { page, complaints, close } = await open(browser, server.page, { ignoreHTTPSErrors: true });
    await connection(page, "Live");
    await assertShowsMetrics(page, server);
    await server.report(["5", "job-4", "REJOIN_DOMAIN", "ROLLBACK"]);
    await awaitCell(page, "REJOIN_DOMAIN", "ROLLBACK", 1);
    const protocols = await page.evaluate(() =>
      ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type)).map((entry) => entry.nextHopProtocol));
    assert.deepEqual([...new Set(protocols)], ["h2"]);
    assert.deepEqual(complaints, []);
    await close();
  }, { withTls: true });

  testWithServer("the page goes on by itself after a restart of the server", async (server) => {
    const { page, close } = await open(browser, server.page);
    await connection(page, "Live");
    const before = await matrix(page);
    await page.evaluate(() => (window.isSame = true));
    await server.stop();
    await connection(page, "No answer");
    assert.deepEqual(await matrix(page), before);
    await server.start();
    await connection(page, "Live");
    assert.deepEqual(await matrix(page), before);
    await server.report(["6", "job-5", "MIGRATE_SERVER", "WAITING"]);
    await awaitCell(page, "MIGRATE_SERVER", "WAITING", 1);
    assert.ok(await page.evaluate(() => window.isSame), "the page was loaded again");
    await close();
  });

  testWithServer("the page polls while there are no events, and returns to them", async (server) => {
    let isBlocked = true;
    const prepare = (page) => page.route("**/overview/events", (route) => (isBlocked ? route.fulfill({ status: 503 }) : route.continue()));
    const { page, close } = await open(browser, server.page, { prepare });
    await connection(page, "Asking every 2 seconds");
    await server.report(["7", "job-6", "SCHEDULED_TASK", "ABORTING"]);
    await awaitCell(page, "SCHEDULED_TASK", "ABORTING", 1);
    isBlocked = false;
    await connection(page, "Live");
    await close();
  });

  testWithServer("a browser without server-sent events polls", async (server) => {
    const prepare = (page) => page.addInitScript(() => delete window.EventSource);
    const { page, complaints, close } = await open(browser, server.page, { prepare });
    await connection(page, "Asking every 2 seconds");
    await assertShowsMetrics(page, server);
    assert.deepEqual(complaints, []);
    await close();
  });

  testWithServer("the table is there without JavaScript", async (server) => {
    const { page, complaints, close } = await open(browser, server.page, { javaScriptEnabled: false });
    await assertShowsMetrics(page, server);
    assert.equal(await page.isVisible("#look-up"), false);
    await page.click("text=Load newer numbers");
    await assertShowsMetrics(page, server);
    assert.deepEqual(complaints, []);
    await close();
  });

  testWithServer("a paused page asks for nothing until it is resumed", async (server) => {
    const { page, close } = await open(browser, server.page);
    await connection(page, "Live");
    await page.click("#pause");
    await connection(page, "Paused");
    await server.report(["8", "job-7", "COLLECT_HDA_LOG", "RUNNING"]);
    let requests = 0;
    page.on("request", () => requests++);
    // Longer than the time between two events or polls.
    await page.waitForTimeout(2500);
    assert.equal(requests, 0);
    assert.equal((await matrix(page)).types.COLLECT_HDA_LOG, undefined);
    await page.click("#pause");
    await awaitCell(page, "COLLECT_HDA_LOG", "RUNNING", 1);
    await close();
  });

  testWithServer("a project and a job are looked up with a token that is kept in memory only", async (server) => {
    const { page, complaints, close } = await open(browser, server.page);
    const lookUp = async (project, job, family, token) => {
      await page.fill("#project", project);
      await page.fill("#job", job);
      await page.selectOption("#family", family);
      await page.fill("#token", token);
      await page.keyboard.press("Enter");
    };
    const says = (text) => page.waitForFunction((text) => document.getElementById("look-up-status").textContent.startsWith(text), text);
    await lookUp(PROJECT, "job-1", "app", TOKEN);
    await says("2 subtasks.");
    assert.deepEqual((await matrix(page, "look-up-result")).types, { CREATE_SERVER: { RUNNING: 1, SUCCESS: 1, all: 2 } });
    await lookUp(PROJECT, "", "image", TOKEN);
    await says("1 subtasks.");
    assert.deepEqual((await matrix(page, "look-up-result")).types, { BUILD_IMAGE: { WAITING: 1, all: 1 } });
    await server.report(["9", "job-3", "BUILD_IMAGE", "RUNNING", { family: "image" }]);
    await says("2 subtasks.");
    assert.deepEqual(complaints, []);

    await lookUp(PROJECT, "", "app", "wrong-token");
    await says("401: X-Auth-Token");
    assert.equal(await page.isVisible("#look-up-result"), false);
    await lookUp(PROJECT, "", "app", "täken €");
    await says("The token has a character");
    // The browser itself logs the 401.
    assert.equal(complaints.filter((complaint) => !complaint.includes("401")).length, 0, complaints.join("\n"));
    assert.equal(page.url(), server.page);
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, ""]);
    await page.reload();
    assert.equal(await page.inputValue("#token"), "");
    await close();
  });

  testWithDemo("the public listener of a demo has the page too", async (demo) => {
    const { page, complaints, close } = await open(browser, `http://${demo.public}/`);
    await connection(page, "Live");
    await page.fill("#project", DEMO_PROJECT);
    await page.fill("#token", TOKEN);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#look-up-result:visible");
    assert.deepEqual(complaints, []);
    await close();
  });

  testWithServer("everything is reached by keyboard, and the focus is seen", async (server) => {
    const { page, close } = await open(browser, server.page);
    await connection(page, "Live");
    const reached = [];
    for (let at = 0; at < 14; at++) {
      await page.keyboard.press("Tab");
      const focus = await page.evaluate(() => {
        const { id, className, tagName } = document.activeElement;
        return { name: id || className || tagName, outline: getComputedStyle(document.activeElement).outlineStyle };
      });
      if (focus.name === "BODY") break;
      assert.equal(focus.outline, "solid", focus.name);
      reached.push(focus.name);
    }
    assert.deepEqual(reached.slice(0, 9), ["skip", "pause", "scroll", "SUMMARY", "project", "job", "family", "token", "BUTTON"]);
    await page.focus("#pause");
    await page.keyboard.press("Space");
    await connection(page, "Paused");
    await close();
  });

  for (const colorScheme of ["light", "dark"]) {
    testWithServer(`the page is accessible in the ${colorScheme} scheme`, async (server) => {
      const { page, close } = await open(browser, server.page, { colorScheme });
      await connection(page, "Live");
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const [red] = background.match(/\d+/).map(Number);
      assert.equal(red < 128, colorScheme === "dark", background);
      await assertAccessible(page);
      await page.setViewportSize(PHONE);
      await assertAccessible(page);
      await close();
    });
  }

  testWithDemo("a desk shows the whole table", async (demo) => {
    const { page, close } = await open(browser, demo.page);
    const [scroll, client] = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.querySelector(".scroll");
      return [scrollWidth, clientWidth];
    });
    assert.ok(scroll <= client, `${scroll} of ${client}`);
    await close();
  });

  testWithDemo("a phone needs no scrolling to the side", async (demo) => {
    const { page, close } = await open(browser, demo.page, { viewport: PHONE, isMobile: true, hasTouch: true });
    await connection(page, "Live");
    for (const width of [PHONE.width, 320]) {
      await page.setViewportSize({ ...PHONE, width });
      const [scroll, client] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(scroll <= client && client <= width, `${scroll} of ${client}`);
    }
    await close();
  });

  testWithDemo("the lines show the history of the demo", async (demo) => {
    const { page, complaints, close } = await open(browser, demo.page);
    await page.waitForFunction(() => {
      const paths = [...document.querySelectorAll("#by-status path")].map((path) => path.getAttribute("d"));
      return paths.every((path) => path.includes("L"));
    });
    assert.match(await page.getAttribute("#by-status [data-name=RUNNING] svg", "aria-label"), /^RUNNING over the last 10 minutes: \d+ to \d+$/);
    assert.deepEqual(complaints, []);
    await close();
  });
});
