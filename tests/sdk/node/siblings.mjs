#!/usr/bin/env node
// Calls the siblings of CountSubJobs with the publisher's own Node core, unmodified; prints one JSON object for each call.
//
//     siblings.mjs CALL...      each as list_sub_jobs?job_type=CREATE_SERVER&limit=2
//
// The environment is that of client.mjs, the output that of ../python/siblings.py.

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

const { SUBJOBS_ENDPOINT: endpoint, SUBJOBS_AK: ak, SUBJOBS_SK: sk, SUBJOBS_PROJECT: project } = process.env;

// The method and the path of each operation; {project_id} is filled in by the core.
const operations = {
  list_sub_jobs: ['GET', '/v1/{project_id}/app-server-sub-jobs'],
  count_image_sub_jobs: ['GET', '/v1/{project_id}/image-server-sub-jobs/actions/count'],
  list_image_sub_jobs: ['GET', '/v1/{project_id}/image-server-sub-jobs'],
  batch_delete_app_sub_jobs: ['POST', '/v1/{project_id}/app-server-sub-jobs/actions/batch-delete'],
  batch_delete_image_sub_jobs: ['PATCH', '/v1/{project_id}/image-server-sub-jobs/actions/batch-delete'],
  show_job_detail: ['GET', '/v2/{project_id}/job/{job_id}'],
  show_job: ['GET', '/v1/{project_id}/job/{job_id}'],
  show_image_job: ['GET', '/v1/{project_id}/image-server-jobs/{job_id}'],
  list_image_jobs: ['GET', '/v1/{project_id}/image-server-jobs'],
};

const { ClientBuilder } = require('@huaweicloud/huaweicloud-sdk-core/ClientBuilder');
const { BasicCredentials } = require('@huaweicloud/huaweicloud-sdk-core');
const who = new BasicCredentials().withAk(ak).withSk(sk).withProjectId(project);
const client = new ClientBuilder((client) => client).withEndpoint(endpoint).withCredential(who).build();

async function run(call) {
  const [name, query] = call.split(/\?(.*)/s);
  const [method, url] = operations[name];
  // As the SDKs generated for one service do it: data and a content type, on a GET too.
  const { items, ...given } = Object.fromEntries(new URLSearchParams(query));
  const [queryParams, pathParams] = url.includes('{job_id}') ? [{}, given] : [given, {}];
  const data = items === undefined ? {} : { items: items.split(',') };
  const request = { method, url, contentType: 'application/json', queryParams, pathParams, headers: {}, data };
  try {
    const { httpStatusCode, ...answer } = await client.sendRequest(request);
    return { answer };
  } catch (error) {
    if (!('httpStatusCode' in error)) throw error;
    const { name: exception, httpStatusCode: status_code, errorCode: error_code, errorMsg: error_msg } = error;
    return { exception, status_code, error_code, error_msg };
  }
}

for (const call of process.argv.slice(2)) writeSync(1, `${JSON.stringify(await run(call))}\n`);
process.exit();
