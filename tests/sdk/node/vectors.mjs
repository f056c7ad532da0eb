#!/usr/bin/env node
// Prints requests signed by the publisher's Node core; ../python/vectors.py says what for, client.mjs what it needs.

import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { stringify } from 'node:querystring';
import { fileURLToPath } from 'node:url';

const installed = process.env.SUBJOBS_SDK_NODE ?? fileURLToPath(new URL('../../../target/sdk-node', import.meta.url));
const require = createRequire(join(resolve(installed), 'package.json'));
const { AKSKSigner } = require('@huaweicloud/huaweicloud-sdk-core/auth/AKSKSigner');
const { BasicCredentials } = require('@huaweicloud/huaweicloud-sdk-core');

const [ak, sk, host] = ['AKEXAMPLE', 'SKEXAMPLE', '127.0.0.1:18900'];
const count = '/v1/0123456789abcdef0123456789abcdef/app-server-sub-jobs/actions/count';

// Signs as its parent does, and keeps what it signs.
class Recording extends AKSKSigner {
  static buildCanonicalRequest(...parts) {
    return (this.canonicalRequest = super.buildCanonicalRequest(...parts));
  }
  static getStringToSign(...parts) {
    return (this.stringToSign = super.getStringToSign(...parts));
  }
}

function vector(name, { method = 'GET', path = count, query = {}, headers = {}, data = {} } = {}) {
  const given = { 'content-type': 'application/json', ...headers, 'X-Sdk-Date': '20261124T022216Z' };
  const endpoint = `http://${host}${path}`;
  const request = { endpoint, method, queryParams: structuredClone(query), headers: given, data };
  const sent = Recording.sign(request, new BasicCredentials().withAk(ak).withSk(sk));
  // The core's HTTP layer leaves the query in the order that the caller gave.
  const target = Object.keys(query).length > 0 ? `${path}?${stringify(query)}` : path;
  const body = data === undefined ? '' : JSON.stringify(data);
  return {
    case: `node: ${name}`,
    request_line: `${method} ${target} HTTP/1.1`,
    headers: [...Object.entries(sent), ...(body ? [['Content-Length', `${Buffer.byteLength(body)}`]] : [])],
    body,
    ak,
    sk,
    alg: 'SDK-HMAC-SHA256',
    canonical_request: Recording.canonicalRequest,
    string_to_sign: Recording.stringToSign,
    signature: sent.Authorization.split('=').at(-1),
  };
}

const three = { status: 'SUCCESS', job_type: 'CREATE_SERVER,DELETE_SERVER', job_id: '2382dd96-x y/z+é%&=' };

const vectors = [
  vector('project look-up', { path: '/v3/projects', query: { name: 'cn-north-4' } }),
  vector('three filters', { query: three }),
  vector('no body', { data: undefined }),
  vector('a name given twice', { query: { job_type: ['DELETE_SERVER', 'CREATE_SERVER'], status: 'RUNNING' } }),
  vector('empty values', { query: { status: '', job_type: '', job_id: '' } }),
  vector('characters that are not encoded when sent', { query: { job_id: "a!'()*~b" } }),
  vector('names sorted before they are encoded', { query: { 'a:': '1', a0: '2' } }),
  vector('four-byte characters', { query: { job_id: '子任务 😀' } }),
  vector('request id and security token', { headers: { 'X-Request-Id': 'Id', 'X-Security-Token': 'Tok/en+1==' } }),
  vector('body', { method: 'POST', data: { name: 'é 子任务', list: [1, null] } }),
];

console.log(JSON.stringify(vectors, null, 1));
