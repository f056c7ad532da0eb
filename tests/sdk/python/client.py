#!/usr/bin/env python3
"""Calls CountSubJobs with the publisher's own Python SDK, unmodified, and prints one JSON object for each call.

    client.py SCENARIO...       the calls named, or `?status=RUNNING&…` for any other filter
    client.py                   the names

The environment says whom to ask: SUBJOBS_ENDPOINT (http://127.0.0.1:PORT), SUBJOBS_AK, SUBJOBS_SK, and SUBJOBS_PROJECT;
without the last one the SDK looks the project up by the name SUBJOBS_REGION, which is local-1 by default.
SUBJOBS_JOB, SUBJOBS_OTHER_PROJECT and SUBJOBS_UNKNOWN_PROJECT stand for values that some scenarios need.

A count is {"scenario", "count"}; an error is {"scenario", "exception", "error_msg"}, and with an answer of the server
also "status_code", "error_code" and "request_id".
"""

import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl

# The SDK writes an id into the home directory, and its HTTP layer reads proxies and .netrc: none of those here.
home = tempfile.TemporaryDirectory()
for name in [name for name in os.environ if name.startswith("HUAWEICLOUD_") or name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ["HOME"] = home.name

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import SdkException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcore.signer.algorithm import SigningAlgorithm
from huaweicloudsdkworkspaceapp.v1 import CountSubJobsRequest, WorkspaceAppAsyncClient, WorkspaceAppClient
from huaweicloudsdkworkspaceapp.v1.region.workspaceapp_region import WorkspaceAppRegion

ENDPOINT = os.environ.get("SUBJOBS_ENDPOINT", "")
AK = os.environ.get("SUBJOBS_AK", "")
SK = os.environ.get("SUBJOBS_SK", "")
PROJECT = os.environ.get("SUBJOBS_PROJECT") or None
REGION = os.environ.get("SUBJOBS_REGION", "local-1")
JOB = os.environ.get("SUBJOBS_JOB", "2382dd96-x y/z+é%&=")
OTHER_PROJECT = os.environ.get("SUBJOBS_OTHER_PROJECT", "another-project")
UNKNOWN_PROJECT = os.environ.get("SUBJOBS_UNKNOWN_PROJECT", "no-such-project")

STATUSES = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"]
TYPES = "CREATE_SERVER,DELETE_SERVER"

FILTERS = {
    "all": {},
    **{f"status-{status.lower()}": {"status": status} for status in STATUSES},
    "type": {"job_type": "CREATE_SERVER"},
    "types": {"job_type": TYPES},
    "types-repeated": {"job_type": f"{TYPES},CREATE_SERVER"},
    "job": {"job_id": JOB},
    "job-unknown": {"job_id": "no-such-job"},
    "three": {"status": "SUCCESS", "job_type": TYPES, "job_id": JOB},
    "empty": {"status": "", "job_type": "", "job_id": ""},
    # Refused.
    "bad-status": {"status": "running"},
    "bad-type": {"job_type": "NO_SUCH_TYPE"},
    "bad-types": {"job_type": "CREATE_SERVER, DELETE_SERVER"},
    "bad-job": {"job_id": "j" * 129},
}


def credentials(ak=AK, sk=SK, project=PROJECT):
    return BasicCredentials(ak, sk, project).with_iam_endpoint(ENDPOINT)


def build(to, who=None, kind=WorkspaceAppClient, config=None):
    """A client for an endpoint, a list of them, or a region; without `who` the environment names the caller."""
    builder = kind.new_builder().with_http_config(config or HttpConfig.get_default_config())
    if who:
        builder = builder.with_credentials(who)
    if isinstance(to, Region):
        builder = builder.with_region(to)
    elif isinstance(to, list):
        builder = builder.with_endpoints(to)
    else:
        builder = builder.with_endpoint(to)
    return builder.build()


def ask(client, **filters):
    return client.count_sub_jobs(CountSubJobsRequest(**filters)).count


def default(**filters):
    # Only a region makes the SDK look the project up.
    return ask(build(ENDPOINT if PROJECT else Region(REGION, ENDPOINT), credentials()), **filters)


def with_project(project):
    return ask(build(ENDPOINT, credentials(project=project)))


def signed_with(algorithm):
    return ask(build(Region(REGION, ENDPOINT), credentials(), config=HttpConfig(signing_algorithm=algorithm)))


def derived():
    """V11-HMAC-SHA256, which a caller has to ask for."""
    who = credentials().with_derived_predicate(lambda request: True)
    who._process_derived_auth_params("workspaceapp", REGION)
    return ask(build(Region(REGION, ENDPOINT), who))


def with_header(name, value, **filters):
    client = build(Region(REGION, ENDPOINT), credentials())
    return client.count_sub_jobs_invoker(CountSubJobsRequest(**filters)).add_header(name, value).invoke().count


def many():
    """Fifty calls on eight threads and one pool of connections: one count, if all are the same."""
    client = build(Region(REGION, ENDPOINT), credentials())
    with ThreadPoolExecutor(8) as threads:
        counts = set(threads.map(lambda _: ask(client), range(50)))
    return counts.pop() if len(counts) == 1 else sorted(counts)


def asynchronous():
    client = build(Region(REGION, ENDPOINT), credentials(), WorkspaceAppAsyncClient)
    return client.count_sub_jobs_async(CountSubJobsRequest()).result().count


def region_from_environment():
    os.environ[f"HUAWEICLOUD_SDK_REGION_WORKSPACEAPP_{REGION.upper().replace('-', '_')}"] = ENDPOINT
    return WorkspaceAppRegion.value_of(REGION)


def region_from_file():
    path = Path(home.name, "regions.yaml")
    path.write_text(f"WorkspaceApp:\n  - id: {REGION}\n    endpoint: {ENDPOINT}\n")
    os.environ["HUAWEICLOUD_SDK_REGIONS_FILE"] = str(path)
    return WorkspaceAppRegion.value_of(REGION)


def caller_from_environment(project):
    os.environ.update(HUAWEICLOUD_SDK_AK=AK, HUAWEICLOUD_SDK_SK=SK, HUAWEICLOUD_SDK_IAM_ENDPOINT=ENDPOINT)
    if project:
        os.environ["HUAWEICLOUD_SDK_PROJECT_ID"] = project


def all_from_environment(project):
    caller_from_environment(project)
    return ask(build(region_from_environment()))


def caller_from_file():
    path = Path(home.name, "credentials")
    path.write_text(f"[basic]\nak = {AK}\nsk = {SK}\niam_endpoint = {ENDPOINT}\n", encoding="utf-8")
    os.environ["HUAWEICLOUD_SDK_CREDENTIALS_FILE"] = str(path)
    # The chain of providers looks for a section named after the class, so ask the one provider that is meant.
    from huaweicloudsdkcore.auth.provider import ProfileCredentialProvider

    return ask(build(Region(REGION, ENDPOINT), ProfileCredentialProvider.get_basic().get_credentials()))


def look_up(region=REGION, sk=SK):
    return ask(build(Region(region, ENDPOINT), credentials(sk=sk, project=None)))


SCENARIOS = {
    **{name: (lambda filters=filters: default(**filters)) for name, filters in FILTERS.items()},
    "many": many,
    "async": asynchronous,
    "endpoint": lambda: ask(build(ENDPOINT, credentials())),
    "endpoints": lambda: ask(build([ENDPOINT, ENDPOINT], credentials())),
    "endpoint-slash": lambda: ask(build(f"{ENDPOINT}/", credentials())),
    "region": lambda: ask(build(Region(REGION, ENDPOINT), credentials())),
    "region-env": lambda: ask(build(region_from_environment(), credentials())),
    "region-file": lambda: ask(build(region_from_file(), credentials())),
    "environment": lambda: all_from_environment(PROJECT),
    # No project id: the SDK asks for it.
    "lookup": look_up,
    "lookup-environment": lambda: all_from_environment(None),
    "lookup-file": caller_from_file,
    "lookup-unknown": lambda: look_up(region="no-such-region"),
    "lookup-wrong-secret": lambda: look_up(sk=f"{SK}x"),
    # What a caller may add.
    "no-content-type": lambda: ask(
        build(Region(REGION, ENDPOINT), credentials(), config=HttpConfig(ignore_content_type_for_get_request=True))
    ),
    "security-token": lambda: ask(build(Region(REGION, ENDPOINT), credentials().with_security_token("token"))),
    "utf-8-header": lambda: with_header("X-Note", "é 子任务"),
    "request-id": lambda: with_header("X-Request-Id", "id-of-the-caller", status="running"),
    # Refused.
    "wrong-secret": lambda: ask(build(Region(REGION, ENDPOINT), credentials(sk=f"{SK}x", project=PROJECT or "p"))),
    "unknown-key": lambda: ask(build(ENDPOINT, credentials(ak="AKNOBODY", project=PROJECT or "p"))),
    "wrong-project": lambda: with_project(OTHER_PROJECT),
    "unknown-project": lambda: with_project(UNKNOWN_PROJECT),
    "no-project": lambda: ask(build(ENDPOINT, credentials(project=None))),
    "sm3": lambda: signed_with(SigningAlgorithm.HMAC_SM3),
    "p256": lambda: signed_with(SigningAlgorithm.ECDSA_P256_SHA256),
    "sm2": lambda: signed_with(SigningAlgorithm.SM2_SM3),
    "derived": derived,
}


def run(name):
    if name.startswith("?"):
        filters = dict(parse_qsl(name[1:], keep_blank_values=True, strict_parsing=True))
        call = lambda: default(**filters)
    else:
        call = SCENARIOS[name]
    try:
        return {"scenario": name, "count": call()}
    except SdkException as error:
        told = ("status_code", "error_code", "error_msg", "request_id")
        known = {field: getattr(error, field) for field in told if hasattr(error, field)}
        return {"scenario": name, "exception": type(error).__name__, **known}


def main(names):
    if not names:
        print("\n".join(SCENARIOS))
        return 0
    unknown = [name for name in names if name not in SCENARIOS and not name.startswith("?")]
    if unknown:
        sys.exit(f"no such scenario: {', '.join(unknown)}")
    if not (ENDPOINT and AK and SK):
        sys.exit("SUBJOBS_ENDPOINT, SUBJOBS_AK and SUBJOBS_SK must be set")
    failed = 0
    for name in names:
        # A process each, as the SDK remembers projects and regions as long as the process lives.
        child = os.fork()
        if child == 0:
            try:
                print(json.dumps(run(name), ensure_ascii=False), flush=True)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 1
            os._exit(code)
        if os.waitpid(child, 0)[1] != 0:
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
