// The Node module, as users use it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { StartError, startSubjobs } from 'subjobs-testing';

let server;
before(async () => {
  server = await startSubjobs({ args: ['--retain-finished', '30d'] });
});
beforeEach(() => server.reset());
after(() => server.stop());

function isRunning(pid) {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)[0] !== 'Z';
  } catch {
    return false;
  }
}

async function waitUntilEnded(pid) {
  for (const end = Date.now() + 30_000; isRunning(pid); await setTimeout(10)) {
    assert(Date.now() < end, 'the server does not end');
  }
}

for (const time of [1, 2]) {
  test(`each test begins without subtasks, ${time}`, async () => {
    assert.equal(await server.count('p'), 0);
    const outcome = await server.report('p', [{ id: '1', status: 'RUNNING' }, { id: '2', status: 'FAILED', job_id: 'j' }]);
    assert.deepEqual(outcome, { created: 2, updated: 0, unchanged: 0, stale: 0 });
    await server.report('é?', { id: '1', status: 'RUNNING' }, { token: server.token });
    assert.deepEqual([await server.count('p', { job_id: 'j' }), await server.count('é?')], [1, 1]);
    await server.faults.set({ status: 500 });
    await server.clock.advance(1000);
  });
}

test('errors have status and code', async () => {
  const denied = server.count('p', {}, { token: server.workerToken });
  await assert.rejects(denied, { name: 'SubjobsError', status: 403, code: 'WKS.00081102' });
  await assert.rejects(server.report('p', { id: '1' }), { status: 400, code: 'WKS.00211102' });
});

test('faults are set, listed and cleared', async () => {
  assert.equal((await server.faults.set({ operation: 'CountSubJobs', status: 503, times: 1 }))[0].hits, 0);
  await assert.rejects(server.count('p'), { status: 503 });
  assert.equal((await server.faults.list())[0].hits, 1);
  await server.faults.clear();
  assert.deepEqual(await server.faults.list(), []);
});

test('the clock is set', async () => {
  await server.report('p', { id: '1', status: 'SUCCESS' });
  const time = new Date('2050-06-01T00:00:00Z');
  assert((await server.clock.set(time)) >= time && (await server.clock.now()) >= time);
  assert.equal(await server.count('p'), 0);
  assert((await server.clock.reset()) < time);
});

test('options of the environment change no server, and it can be stopped twice', async () => {
  process.env.SUBJOBS_LISTEN = 'no such address';
  const other = await startSubjobs({ env: { SUBJOBS_EPHEMERAL_TOKEN: 'mine' } });
  delete process.env.SUBJOBS_LISTEN;
  assert.equal(other.token, 'mine');
  // The log comes on another stream than the addresses.
  while (!/ready/.test(other.log())) await setTimeout(5);
  assert.deepEqual([await other.stop(), await other.stop()], [0, 0]);
  assert(!isRunning(other.pid));
});

test('a program that cannot start says why', async () => {
  await assert.rejects(startSubjobs({ args: ['--no-such-option'] }), (error) => {
    return error instanceof StartError && /unexpected argument '--no-such-option'/.test(error.message);
  });
  await assert.rejects(startSubjobs({ binary: '/nowhere/subjobs' }), /ENOENT.*set SUBJOBS_BIN/);
});

test('a process that is killed, or forgets to stop the server, leaves none', async () => {
  const start = "import { startSubjobs } from 'subjobs-testing'; console.log((await startSubjobs()).pid);";
  for (const rest of ['setInterval(() => {}, 1000);', '']) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', start + rest], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [pid] = await once(child.stdout.setEncoding('utf8'), 'data');
    assert(Number(pid) > 0);
    if (rest) child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    await waitUntilEnded(Number(pid));
  }
});
