// Runs a real subjobs server in tests. index.d.ts describes each export.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

// How long a server may take to start and to stop, and a request to be answered, in milliseconds.
const TIMEOUT = 30_000;

// The most characters of the log that are kept.
const MAX_LOG = 1 << 20;

export class SubjobsError extends Error {
  constructor(status, code, message) {
    super(`${status} ${code}: ${message}`);
    this.name = 'SubjobsError';
    this.status = status;
    this.code = code;
  }
}

export class StartError extends Error {
  constructor(message) {
    super(message);
    this.name = 'StartError';
  }
}

// The first line of a stream, or an empty text if it ends before.
async function firstLine(stream) {
  let text = '';
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    text += chunk;
    if (text.includes('\n')) return text.slice(0, text.indexOf('\n'));
  }
  return '';
}

export async function startSubjobs({ args = [], binary, env = {}, token = '' } = {}) {
  const program = binary ?? process.env.SUBJOBS_BIN ?? 'subjobs';
  // Options of the caller's environment would change the server.
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SUBJOBS_')));
  // The program ends when its standard input does, so also if this process is killed.
  const child = spawn(program, ['serve', '--ephemeral', ...args], { env: { ...own, ...env }, stdio: 'pipe' });
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code));
  });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    log = (log + text).slice(-MAX_LOG);
  });
  // A program that has ended does not read; its exit code says why.
  child.stdin.on('error', () => {});
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT);
  let line;
  try {
    line = await Promise.race([firstLine(child.stdout.setEncoding('utf8')), ended.then(() => '')]);
  } catch (error) {
    throw new StartError(`${program}: ${error.message}: install it, or set SUBJOBS_BIN`);
  } finally {
    clearTimeout(timer);
  }
  if (line === '') {
    child.kill('SIGKILL');
    await ended;
    throw new StartError(`${program} has not become ready:\n${log}`);
  }
  // A test that forgets to stop the server can still end.
  child.unref();
  for (const stream of child.stdio) stream.unref();
  return new Server(child, ended, () => log, { token, worker_token: token, ...JSON.parse(line) });
}

export class Server {
  #child;
  #ended;
  #log;

  constructor(child, ended, log, addresses) {
    this.#child = child;
    this.#ended = ended;
    this.#log = log;
    this.public = addresses.public;
    this.internal = addresses.internal;
    this.token = addresses.token;
    this.workerToken = addresses.worker_token;
    this.faults = new Faults(this);
    this.clock = new Clock(this);
  }

  get pid() {
    return this.#child.pid;
  }

  log() {
    return this.#log();
  }

  async stop() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.ref();
      this.#child.stdin.end();
      const timer = setTimeout(() => this.#child.kill('SIGKILL'), TIMEOUT);
      await this.#ended;
      clearTimeout(timer);
    }
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    await this.stop();
  }

  report(project, subJobs, { token = this.workerToken } = {}) {
    const records = [subJobs].flat().map((subJob) => ({ job_type: 'CREATE_SERVER', job_id: 'job', ...subJob }));
    const path = `/v1/${encodeURIComponent(project)}/app-server-sub-jobs/actions/report`;
    return this.#call('POST', this.internal + path, records, token);
  }

  async count(project, filters = {}, { token = this.token } = {}) {
    const query = new URLSearchParams(filters).toString();
    const path = `/v1/${encodeURIComponent(project)}/app-server-sub-jobs/actions/count`;
    const answer = await this.#call('GET', `${this.public}${path}${query && `?${query}`}`, undefined, token);
    return answer.count;
  }

  async reset() {
    return (await this.control('POST', '/reset')).deleted;
  }

  control(method, path, body) {
    return this.#call(method, this.internal + path, body);
  }

  async #call(method, url, body, token) {
    // A connection that is kept alive would delay the end of the server.
    const headers = { Connection: 'close' };
    if (token) headers['X-Auth-Token'] = token;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const response = await fetch(url, { method, headers, body: sent, signal: AbortSignal.timeout(TIMEOUT) });
    const text = await response.text();
    const answer = text ? JSON.parse(text) : {};
    if (!response.ok) throw new SubjobsError(response.status, answer.error_code ?? '', answer.error_msg ?? '');
    return answer;
  }
}

class Faults {
  #server;

  constructor(server) {
    this.#server = server;
  }

  async set(...rules) {
    return (await this.#server.control('PUT', '/faults', { rules })).rules;
  }

  async list() {
    return (await this.#server.control('GET', '/faults')).rules;
  }

  async clear() {
    await this.#server.control('DELETE', '/faults');
  }
}

class Clock {
  #server;

  constructor(server) {
    this.#server = server;
  }

  async now() {
    return new Date((await this.#server.control('GET', '/clock')).now);
  }

  async set(time) {
    return new Date((await this.#server.control('PUT', '/clock', { now: time.toISOString() })).now);
  }

  async advance(milliseconds) {
    const { offset_seconds } = await this.#server.control('GET', '/clock');
    const setting = { offset_seconds: offset_seconds + milliseconds / 1000 };
    return new Date((await this.#server.control('PUT', '/clock', setting)).now);
  }

  async reset() {
    return new Date((await this.#server.control('DELETE', '/clock')).now);
  }
}
