#!/usr/bin/env node
// Calls CountSubJobs with the publisher's own Node core, unmodified, and prints one JSON object for each call.
//
//     client.mjs SCENARIO...      the calls named, or `?status=RUNNING&…` for any other filter
//     client.mjs                  the names
//
// The names, the environment and the output are those of ../python/client.py; what the Node core cannot do is not here.
// SUBJOBS_SDK_NODE is where ../setup has installed it, target/sdk-node by default.

import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const installed = process.env.SUBJOBS_SDK_NODE ?? fileURLToPath(new URL('../../../target/sdk-node', import.meta.url));
const require = createRequire(join(resolve(installed), 'package.json'));

// The core writes an id into the home directory, and logs every failed call to standard output, at length.
const home = mkdtempSync(join(tmpdir(), 'subjobs-'));
process.on('exit', () => rmSync(home, { recursive: true, force: true }));
process.env.HOME = home;
process.stdout.write = () => true;
const print = (line) => writeSync(1, `${line}\n`);

const {
  SUBJOBS_ENDPOINT: endpoint,
  SUBJOBS_AK: ak,
  SUBJOBS_SK: sk,
  SUBJOBS_PROJECT: project,
  SUBJOBS_REGION: region = 'local-1',
  SUBJOBS_JOB: job = '2382dd96-x y/z+é%&=',
  SUBJOBS_OTHER_PROJECT: otherProject = 'another-project',
  SUBJOBS_UNKNOWN_PROJECT: unknownProject = 'no-such-project',
} = process.env;

const statuses = ['WAITING', 'RUNNING', 'SUCCESS', 'FAILED', 'ABNORMAL', 'ROLLBACK', 'ABORTING'];
const types = 'CREATE_SERVER,DELETE_SERVER';

const filters = {
  all: {},
  ...Object.fromEntries(statuses.map((status) => [`status-${status.toLowerCase()}`, { status }])),
  type: { job_type: 'CREATE_SERVER' },
  types: { job_type: types },
  'types-repeated': { job_type: `${types},CREATE_SERVER` },
  job: { job_id: job },
  'job-unknown': { job_id: 'no-such-job' },
  three: { status: 'SUCCESS', job_type: types, job_id: job },
  empty: { status: '', job_type: '', job_id: '' },
  // Refused.
  'bad-status': { status: 'running' },
  'bad-type': { job_type: 'NO_SUCH_TYPE' },
  'bad-types': { job_type: 'CREATE_SERVER, DELETE_SERVER' },
  'bad-job': { job_id: 'j'.repeat(129) },
};

// As the SDKs generated for one service do it: data and a content type, on a GET too.
function countSubJobs(client, queryParams, headers = {}) {
  return client.sendRequest({
    method: 'GET',
    url: '/v1/{project_id}/app-server-sub-jobs/actions/count',
    contentType: 'application/json',
    queryParams,
    pathParams: {},
    headers,
    data: {},
  });
}

function core() {
  const { ClientBuilder } = require('@huaweicloud/huaweicloud-sdk-core/ClientBuilder');
  const { BasicCredentials, Region } = require('@huaweicloud/huaweicloud-sdk-core');
  return { builder: () => new ClientBuilder((client) => client), BasicCredentials, Region };
}

function caller({ BasicCredentials }, { key = ak, secret = sk, id = project } = {}) {
  const credentials = new BasicCredentials().withAk(key).withSk(secret).withIamEndpoint(endpoint);
  return id ? credentials.withProjectId(id) : credentials;
}

// Only a region makes the core look the project up.
function inRegion(who, { name = region, query = {}, headers } = {}) {
  const sdk = core();
  const client = sdk.builder().withRegion(new sdk.Region(name, endpoint)).withCredential(caller(sdk, who)).build();
  return countSubJobs(client, query, headers);
}

function atEndpoint(to, who) {
  const sdk = core();
  return countSubJobs(sdk.builder().withEndpoint(to).withCredential(caller(sdk, who)).build(), {});
}

function fromEnvironment(id) {
  Object.assign(process.env, {
    HUAWEICLOUD_SDK_AK: ak,
    HUAWEICLOUD_SDK_SK: sk,
    HUAWEICLOUD_SDK_IAM_ENDPOINT: endpoint,
  });
  if (id) process.env.HUAWEICLOUD_SDK_PROJECT_ID = id;
  else delete process.env.HUAWEICLOUD_SDK_PROJECT_ID;
  const sdk = core();
  return countSubJobs(sdk.builder().withRegion(new sdk.Region(region, endpoint)).build(), {});
}

// Fifty calls on one client: one count, if all are the same.
async function many() {
  const sdk = core();
  const client = sdk.builder().withRegion(new sdk.Region(region, endpoint)).withCredential(caller(sdk)).build();
  const answers = await Promise.all(Array.from({ length: 50 }, () => countSubJobs(client, {})));
  const counts = [...new Set(answers.map((answer) => answer.count))];
  return { count: counts.length === 1 ? counts[0] : counts };
}

const scenarios = {
  ...Object.fromEntries(Object.entries(filters).map(([name, query]) => [name, () => inRegion({}, { query })])),
  many,
  endpoint: () => atEndpoint(endpoint),
  endpoints: () => atEndpoint(['http://127.0.0.1:1', endpoint]), // nobody listens on the first
  region: () => inRegion(),
  environment: () => fromEnvironment(project),
  // No project id: the core asks for it.
  lookup: () => inRegion({ id: '' }),
  'lookup-environment': () => fromEnvironment(''),
  'lookup-unknown': () => inRegion({ id: '' }, { name: 'no-such-region' }),
  'lookup-wrong-secret': () => inRegion({ id: '', secret: `${sk}x` }),
  // What a caller may add.
  'request-id': () => inRegion({}, { query: { status: 'running' }, headers: { 'X-Request-Id': 'id-of-the-caller' } }),
  // Refused.
  'types-array': () => inRegion({}, { query: { job_type: types.split(',') } }), // the core sends job_type twice
  'wrong-secret': () => inRegion({ secret: `${sk}x`, id: project || 'p' }),
  'unknown-key': () => atEndpoint(endpoint, { key: 'AKNOBODY', id: project || 'p' }),
  'wrong-project': () => atEndpoint(endpoint, { id: otherProject }),
  'unknown-project': () => atEndpoint(endpoint, { id: unknownProject }),
};

async function run(name) {
  // The core remembers the projects it has looked up as long as it is loaded.
  if (name.startsWith('lookup')) for (const file of Object.keys(require.cache)) delete require.cache[file];
  try {
    const query = Object.fromEntries(new URLSearchParams(name.slice(1)));
    const call = scenarios[name] ?? (() => inRegion({}, { query }));
    return { scenario: name, count: (await call()).count };
  } catch (error) {
    if (!('httpStatusCode' in error) && error.name !== 'SdkException') throw error;
    return {
      scenario: name,
      exception: error.name,
      status_code: error.httpStatusCode,
      error_code: error.errorCode,
      error_msg: error.errorMsg ?? error.message,
      request_id: error.requestId,
    };
  }
}

function fail(why) {
  console.error(why);
  process.exit(1);
}

const names = process.argv.slice(2);
if (names.length === 0) {
  print(Object.keys(scenarios).join('\n'));
  process.exit();
}
const unknown = names.filter((name) => !(name in scenarios) && !name.startsWith('?'));
if (unknown.length > 0) fail(`no such scenario: ${unknown.join(', ')}`);
if (!endpoint || !ak || !sk) fail('SUBJOBS_ENDPOINT, SUBJOBS_AK and SUBJOBS_SK must be set');
// Whatever comes after the answers, such as the core's loggers and idle connections, need not be waited for.
for (const name of names) print(JSON.stringify(await run(name)));
process.exit();
