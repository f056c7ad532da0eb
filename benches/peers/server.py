"""A server that is measured: its process, its processor time, and wrk."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CONNECTIONS = 64

TOKEN = "a-token-of-the-peers-benchmark"
PROJECT = "2b31ed520ab14c7bebedb6e500000000"
JOB = "2382dd96-1f0a-456d-a0a4-c4b09a35b58a"
REQUEST = f"/v1/{PROJECT}/app-server-sub-jobs/actions/count?status=SUCCESS&job_type=CREATE_SERVER&job_id={JOB}"


class Server:
    """A server with its children, in a session of its own."""

    def __init__(self, name, command, port=None, **options):
        self.name = name
        # The log is a file, so that nothing waits for a reader.
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True, **options
        )
        self.port = port
        self.per_second, self.micros = [], []

    def wait_until_ready(self):
        """Waits until it answers the request. One that chooses its port says so in its log."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            text = self.read_log()
            if self.process.poll() is not None:
                sys.exit(f"{self.name} has ended:\n{text}")
            if self.port is None:
                self.port = announced_port(text)
            if self.port is not None:
                try:
                    request = urllib.request.Request(self.url(), headers={"X-Auth-Token": TOKEN})
                    with urllib.request.urlopen(request, timeout=5) as response:
                        return json.load(response)["count"]
                except urllib.error.HTTPError as error:
                    sys.exit(f"{self.name}: {error}: {error.read().decode()}")
                except OSError:
                    pass
            time.sleep(0.05)
        sys.exit(f"{self.name} is not ready within 60 s:\n{self.read_log()}")

    def read_log(self):
        # By another offset than that of the writer.
        return os.pread(self.log.fileno(), 64 * 1024, 0).decode(errors="replace")

    def url(self):
        return f"http://127.0.0.1:{self.port}{REQUEST}"

    def cpu(self):
        """Seconds of processor time of all processes of the session."""
        ticks = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def measure(self, seconds, *options):
        before = self.cpu()
        # The slowest take seconds for an answer on a busy machine.
        load = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s"]
        command = ["wrk", *load, "-H", f"X-Auth-Token: {TOKEN}", *options, self.url()]
        text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
        cpu = self.cpu() - before
        if "Non-2xx" in text or "Socket errors" in text:
            sys.exit(f"{self.name} does not answer all requests:\n{text}")
        requests = int(re.search(r"(\d+) requests in", text)[1])
        self.per_second.append(float(re.search(r"Requests/sec: *([\d.]+)", text)[1]))
        self.micros.append(cpu * 1e6 / requests)

    def stop(self):
        for signum in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signum)
                self.process.wait(timeout=10)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.log.close()


def announced_port(log):
    for line in log.splitlines(keepends=True):
        if line.endswith("\n") and '"listening"' in line:
            event = json.loads(line)
            if event["listener"] == "public":
                return int(event["address"].rpartition(":")[2])
    return None
