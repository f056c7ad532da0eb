"""Starts the demo server with an added job type, lints the document that it shows, generates a client of it, and counts."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request

TOKEN = "openapi-demo-token"


def start(subjobs):
    """The server, its two addresses by listener, and a project that exists."""
    command = [subjobs, "serve", "--demo", "--job-type", "ADDED_1", "--log-format", "json"]
    command += ["--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]
    environment = {**os.environ, "SUBJOBS_DEMO_TOKEN": TOKEN, "RUST_LOG": "info"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = {}
    for line in server.stderr:
        entry = json.loads(line)
        entry = {**entry, **entry.get("fields", {})}
        if entry.get("message") == "listening":
            address[entry["listener"]] = entry["address"]
        if entry.get("message") == "ready":
            break
    else:
        sys.exit(f"the server is not ready: {server.wait()}")
    project = None
    while project is None:
        project = re.search(r"/v1/([^/{}\s]+)/app-server-sub-jobs/actions/count", server.stdout.readline())
    for pipe in (server.stdout, server.stderr):
        threading.Thread(target=pipe.read, daemon=True).start()
    return server, address, project[1]


def check(address, project, directory):
    text = urllib.request.urlopen(f"http://{address['internal']}/openapi.json", timeout=10).read()
    document = directory / "openapi.json"
    document.write_bytes(text)
    subprocess.run(["openapi-spec-validator", document], check=True)
    generate = ["openapi-python-client", "generate", "--path", document, "--meta", "none"]
    subprocess.run([*generate, "--output-path", directory / "made"], check=True, capture_output=True)
    sys.path.insert(0, str(directory))

    from made import AuthenticatedClient
    from made.api.job import count_image_sub_jobs, count_sub_jobs, list_image_sub_jobs, list_sub_jobs
    from made.models import Count, CountSubJobsStatus, Error, ImageJobType, ImageSubJobList, JobType, SubJobList

    def call(operation, token=TOKEN, project=project, **filters):
        client = AuthenticatedClient(
            f"http://{address['public']}", token=token, prefix="", auth_header_name="X-Auth-Token"
        )
        return operation.sync_detailed(project, client=client, **filters)

    def count(**filters):
        return call(count_sub_jobs, **filters)

    # Every answer is an object of a class of its own, errors too.
    for status, code, answer in [
        (400, "WKS.00211102", count(job_type="NO_SUCH_TYPE")),
        (401, "WKS.00211302", count(token="nobody")),
        (404, "WKS.00211902", count(project="nowhere")),
    ]:
        assert answer.status_code == status, answer
        assert isinstance(answer.parsed, Error), answer
        assert answer.parsed.error_code == code and answer.parsed.error_msg, answer
    for filters in [
        {},
        {"status": CountSubJobsStatus.RUNNING},
        {"status": CountSubJobsStatus("")},
        {"job_type": JobType.ADDED_1},
        {"job_type": ",".join([JobType.CREATE_SERVER.value, JobType.ADDED_1.value])},
        {"job_type": ""},
    ]:
        answer = count(**filters)
        assert answer.status_code == 200 and isinstance(answer.parsed, Count), (filters, answer)
    assert count().parsed.count > count(job_type=JobType.ADDED_1).parsed.count > 0

    page = call(list_sub_jobs, job_type=JobType.ADDED_1, offset=1, limit=2).parsed
    assert isinstance(page, SubJobList) and page.count == count(job_type=JobType.ADDED_1).parsed.count, page
    assert [item.job_type for item in page.items] == [JobType.ADDED_1] * 2, page
    images = call(list_image_sub_jobs, job_type=ImageJobType.BUILD_IMAGE, limit=100).parsed
    assert isinstance(images, ImageSubJobList) and len(images.items) == images.count > 0, images
    assert call(count_image_sub_jobs, job_type=ImageJobType.BUILD_IMAGE).parsed.count == images.count
    assert call(count_image_sub_jobs).parsed.count == call(list_image_sub_jobs, job_type="").parsed.count
    assert call(list_sub_jobs, job_type="NO_SUCH_TYPE").parsed.error_code == "WKS.00211102"


server, address, project = start(sys.argv[1])
try:
    with tempfile.TemporaryDirectory() as directory:
        check(address, project, pathlib.Path(directory))
finally:
    server.terminate()
    server.wait(timeout=15)
print("the document is good, and so is the client made of it")
