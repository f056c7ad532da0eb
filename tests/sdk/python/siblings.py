#!/usr/bin/env python3
"""Calls the siblings of CountSubJobs with the publisher's own Python SDK, unmodified; prints one JSON object for each call.

    siblings.py CALL...      each as list_sub_jobs?job_type=CREATE_SERVER&limit=2: the client's method, the request's attributes;
                             `items`, separated by commas, are those of a body

The environment is that of client.py. An answer is {"answer"}, without what the SDK leaves empty; an error is {"exception",
"status_code", "error_code", "error_msg"}. A warning of the SDK's is an error too.
"""

import json
import os
import sys
import tempfile
import warnings
from urllib.parse import parse_qsl

# The SDK writes an id into the home directory, and its HTTP layer reads proxies and .netrc: none of those here.
home = tempfile.TemporaryDirectory()
for name in [name for name in os.environ if name.startswith("HUAWEICLOUD_") or name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ["HOME"] = home.name

import huaweicloudsdkworkspaceapp.v1 as sdk
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import SdkException


def client():
    who = BasicCredentials(os.environ["SUBJOBS_AK"], os.environ["SUBJOBS_SK"], os.environ["SUBJOBS_PROJECT"])
    builder = sdk.WorkspaceAppClient.new_builder().with_credentials(who)
    return builder.with_endpoint(os.environ["SUBJOBS_ENDPOINT"]).build()


def request(method, text):
    """The request of a method, whose attributes are of the SDK's own types."""
    kind = getattr(sdk, "".join(word.capitalize() for word in method.split("_")) + "Request")
    given = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    if "items" in given:
        given = {"body": sdk.BatchDeleteSubJobsReq(items=given["items"].split(","))}
    return kind(**{name: int(value) if kind.openapi_types[name] == "int" else value for name, value in given.items()})


def plain(value):
    """A model of the SDK's as JSON has it; what has not come is None there, and left out here."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if hasattr(value, "openapi_types") and value.openapi_types:
        return plain({name: getattr(value, name) for name in value.openapi_types})
    return value if isinstance(value, (int, str)) else str(value)


def run(call):
    method, _, text = call.partition("?")
    try:
        answer = getattr(client(), method)(request(method, text))
        # A model without fields is of an answer without a body.
        return {"answer": plain(answer) if answer.openapi_types else {}}
    except SdkException as error:
        told = ("status_code", "error_code", "error_msg")
        known = {field: getattr(error, field) for field in told if hasattr(error, field)}
        return {"exception": type(error).__name__, **known}


with warnings.catch_warnings():
    warnings.simplefilter("error")
    for call in sys.argv[1:]:
        print(json.dumps(run(call), ensure_ascii=False), flush=True)
