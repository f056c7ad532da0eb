#!/usr/bin/env python3
"""Prints requests signed by the publisher's Python SDK, edge cases included, in the form of signatures.json.

tests/fixtures/signatures-more.json holds these and those of ../node/vectors.mjs, joined:

    jq --slurp --indent 1 add <(target/sdk-venv/bin/python tests/sdk/python/vectors.py) <(node tests/sdk/node/vectors.mjs)

`target` is what the SDK would send, written another way that means the same, as a caller or a proxy may do.
"""

import json
import os
import sys
import tempfile

home = tempfile.TemporaryDirectory()
os.environ["HOME"] = home.name  # the SDK writes an id there

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

AK, SK = "AKEXAMPLE", "SKEXAMPLE"
HOST = "127.0.0.1:18900"
PROJECT = "0123456789abcdef0123456789abcdef"
DATE = "20261124T022216Z"
COUNT = f"/v1/{PROJECT}/app-server-sub-jobs/actions/count"


class Recording(Signer):
    """Signs as its parent does, and keeps what it signs."""

    host = True

    def _process_canonical_request(self, request, signed_headers):
        self.canonical_request = super()._process_canonical_request(request, signed_headers)
        return self.canonical_request

    def _sign_string_to_sign(self, string_to_sign, key):
        self.string_to_sign = string_to_sign
        return super()._sign_string_to_sign(string_to_sign, key)

    def _process_header_host(self, request):
        if self.host:
            super()._process_header_host(request)


class HostUnsigned(Recording):
    host = False


def vector(case, path=COUNT, query=(), headers=(), body="", method="GET", target=None, signer=Recording, sk=SK):
    signer = signer(BasicCredentials(AK, sk, PROJECT))
    request = SdkRequest(
        method=method,
        schema="http",
        host=HOST,
        resource_path=path,
        query_params=[(name, list(value) if isinstance(value, list) else value) for name, value in query],
        header_params={"User-Agent": "huaweicloud-usdk-python/3.0", **dict(headers), "X-Sdk-Date": DATE},
        body=body,
    )
    sent = signer.sign(request)
    # The SDK hands its HTTP layer each UTF-8 byte as one character.
    lines = [[name, value.encode("latin-1").decode()] for name, value in sent.header_params.items()]
    if not any(name.lower() == "host" for name, _ in lines):
        lines.append(["Host", HOST])
    if body:
        lines.append(["Content-Length", str(len(sent.body))])
    return {
        "case": f"python: {case}",
        "request_line": f"{method} {target or sent.uri} HTTP/1.1",
        "headers": lines,
        "body": body,
        "ak": AK,
        "sk": sk,
        "alg": "SDK-HMAC-SHA256",
        "canonical_request": signer.canonical_request,
        "string_to_sign": signer.string_to_sign,
        "signature": sent.header_params["Authorization"].rpartition("=")[2],
    }


JSON = [("Content-Type", "application/json")]
THREE = [("status", "SUCCESS"), ("job_type", "CREATE_SERVER,DELETE_SERVER"), ("job_id", "2382dd96-x y/z+é%&=")]

VECTORS = [
    vector("project look-up", "/v3/projects", [("name", "cn-north-4")]),
    vector("project look-up, a name to be encoded", "/v3/projects", [("name", "cn-north-4_é 1/2")]),
    vector("no filter, no headers but the date, the host and the agent"),
    vector("three filters", query=THREE, headers=JSON),
    vector(
        "query in another order",
        query=THREE,
        target=f"{COUNT}?status=SUCCESS&job_id=2382dd96-x%20y%2Fz%2B%C3%A9%25%26%3D"
        "&job_type=CREATE_SERVER%2CDELETE_SERVER",
    ),
    vector(
        "query encoded no more than it must be",
        query=THREE,
        target=f"{COUNT}?job_id=2382dd96-x%20y/z%2b%c3%a9%25%26=&job_type=CREATE_SERVER,DELETE_SERVER&status=SUCCESS",
    ),
    vector("query encoded more than it must be", query=[("status", "FAILED")], target=f"{COUNT}?st%61tus=%46AILED"),
    vector(
        "a name given twice, values in another order",
        query=[("job_type", ["DELETE_SERVER", "CREATE_SERVER"]), ("status", "RUNNING")],
        target=f"{COUNT}?job_type=DELETE_SERVER&status=RUNNING&job_type=CREATE_SERVER",
    ),
    vector(
        "names and values sorted before they are encoded",
        query=[("a0", "2"), ("a:", "1"), ("b", ["x:", "x0", "é", "~"])],
    ),
    vector("names that begin alike", query=[("job", "3"), ("job_id", "2"), ("job-id", "1"), ("Job", "0")]),
    vector("empty values", query=[("status", ""), ("job_type", ""), ("job_id", "")]),
    vector("empty values, no equals sign", query=[("flag", ""), ("status", "")], target=f"{COUNT}?status&flag"),
    vector(
        "every kind of unreserved character, and all of the others",
        query=[("job_id", "Az09-_.~ !\"#$%&'()*+,/:;<=>?@[\\]^`{|}")],
    ),
    vector("four-byte characters", query=[("job_id", "子任务 😀")]),
    vector("project with lower-case hexadecimal", "/v1/%C3%A9/x", target="/v1/%c3%a9/x"),
    vector("project encoded more than it must be", "/v1/p~1/x", target="/v1/%70%7E1/x"),
    vector("project with an encoded slash", "/v1/a%2Fb/x"),
    vector("project with an encoded per cent sign, decoded once only", "/v1/a%252Fb/x"),
    vector("project with a space and a plus sign", "/v1/a%20b%2Bc+d/x", target="/v1/a%20b+c%2Bd/x"),
    vector("path that ends with a slash", f"{COUNT}/"),
    vector("path of a slash only", "/"),
    vector("empty segments", "/v1//x"),
    vector("header in UTF-8", headers=[("X-Note", "é 子任务")]),
    vector("header with spaces at both ends and inside", headers=[("X-Note", "  two  spaces ")]),
    vector("empty header", headers=[("X-Note", "")]),
    vector("header with a name in mixed case", headers=[("x-NoTe", "A"), ("X-Request-Id", "Id")]),
    vector("header with an underscore, which is not signed", headers=[("X_Note", "A")]),
    vector("security token", headers=[("X-Security-Token", "Tok/en+1==")]),
    vector("host not signed", signer=HostUnsigned),
    vector("secret in UTF-8", sk="sécret 子"),
    vector("body", path=f"/v1/{PROJECT}/x", method="POST", headers=JSON, body='{"name": "é 子任务"}'),
    vector("body of a GET", headers=JSON, body="{}"),
    vector("HEAD", method="HEAD", query=[("status", "RUNNING")]),
]

json.dump(VECTORS, sys.stdout, ensure_ascii=False, indent=1)
print()
