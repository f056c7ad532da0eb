"""Starts the demo server with an added job type, lints the document that it sends, and generates two clients that call it.

    check.py SUBJOBS NODE      NODE is the directory with the modules of node/package.json
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request

HERE = pathlib.Path(__file__).parent
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


def run(*command, **options):
    subprocess.run(command, check=True, **options)


def ephemeral_document(subjobs):
    """The document of an ephemeral server, which has operations that no other has."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([subjobs, "serve", "--ephemeral"], **pipes) as server:
        internal = json.loads(server.stdout.readline())["internal"]
        with urllib.request.urlopen(f"{internal}/openapi.json", timeout=10) as answer:
            return answer.read()


def check(address, project, modules, directory):
    document = directory / "openapi.json"
    with urllib.request.urlopen(f"http://{address['internal']}/openapi.json", timeout=10) as answer:
        document.write_bytes(answer.read())
    node = {"cwd": directory, "env": {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}}
    # The compiler and Node look for modules in the directories above a file.
    (directory / "node_modules").symlink_to(modules / "node_modules")
    (directory / "package.json").write_text('{"type": "module"}')
    for name in ("calls.ts", "tsconfig.json", "redocly.yaml"):
        shutil.copy(HERE / "node" / name, directory)
    tool = directory / "node_modules" / ".bin"
    caller = [address["public"], address["internal"], project, TOKEN]

    ephemeral = directory / "ephemeral.json"
    ephemeral.write_bytes(ephemeral_document(sys.argv[1]))
    for described in (document, ephemeral):
        run("openapi-spec-validator", described)
        run(tool / "redocly", "lint", described, **node)

    generate = ["openapi-python-client", "generate", "--path", document, "--meta", "none"]
    run(*generate, "--output-path", directory / "made", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run(sys.executable, HERE / "calls.py", directory, *caller)

    run(tool / "openapi-typescript", document, "--output", directory / "api.ts", stdout=subprocess.DEVNULL, **node)
    run(tool / "tsc", "--project", directory, **node)
    run("node", directory / "calls.js", *caller, **node)


server, address, project = start(sys.argv[1])
try:
    with tempfile.TemporaryDirectory() as directory:
        check(address, project, pathlib.Path(sys.argv[2]), pathlib.Path(directory))
finally:
    server.terminate()
    server.wait(timeout=15)
