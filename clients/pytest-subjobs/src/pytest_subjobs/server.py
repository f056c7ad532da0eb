"""A subjobs server as a child process, and the calls that tests need."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import threading
from datetime import datetime, timedelta
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence
from urllib.parse import quote, urlencode, urlsplit

#: How long a server may take to start and to stop, and a request to be answered, in seconds.
TIMEOUT = 30.0


class StartError(Exception):
    """The program cannot be found, or has not become ready. The text has its log."""


class SubjobsError(Exception):
    """The server has answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


class Server:
    """A running server. Make one with :meth:`start`."""

    #: The URL of the public listener, with which callers count.
    public: str
    #: The URL of the internal listener, to which workers report.
    internal: str
    #: A token that may do everything in every project.
    token: str
    #: A token that may only report.
    worker_token: str

    def __init__(self, process: "subprocess.Popen[bytes]", log: Any, addresses: Mapping[str, str], token: str) -> None:
        self._process = process
        self._log = log
        self.public = addresses["public"]
        self.internal = addresses["internal"]
        self.token = addresses.get("token", token)
        self.worker_token = addresses.get("worker_token", token)
        self.faults = Faults(self)
        self.clock = Clock(self)

    @classmethod
    def start(
        cls,
        args: Sequence[str] = (),
        *,
        binary: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        token: str = "",
    ) -> "Server":
        """Starts a server with further options, and waits until it is ready.

        The program is `binary`, else the environment variable SUBJOBS_BIN, else `subjobs` on the path. `token` is needed with
        `--access` only, because the program knows no token then.
        """
        program = binary or os.environ.get("SUBJOBS_BIN") or shutil.which("subjobs")
        if program is None:
            raise StartError("there is no subjobs on the path: install it, or set SUBJOBS_BIN")
        # Options of the caller's environment would change the server. The program ends when the pipe to it is closed, so also if
        # this process is killed.
        own = {name: value for name, value in os.environ.items() if not name.startswith("SUBJOBS_")}
        log = tempfile.TemporaryFile()
        try:
            process = subprocess.Popen(
                [program, "serve", "--ephemeral", *args],
                env={**own, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        except OSError as error:
            log.close()
            raise StartError(f"{program}: {error}") from error
        assert process.stdout is not None
        # The program prints one line, or none if it cannot start. It is killed if it does neither.
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            process.kill()
            process.wait()
            log.seek(0)
            text = log.read().decode(errors="replace")
            log.close()
            raise StartError(f"{program} has not become ready:\n{text}")
        return cls(process, log, json.loads(line), token)

    def stop(self) -> int:
        """Stops the server, and returns its exit code. A second call only returns it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            return self._process.wait(TIMEOUT)
        finally:
            self._process.kill()
            self._process.stdout.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    def log(self) -> str:
        """What the server has logged so far."""
        self._log.flush()
        # Not read through the file object, whose position the program's writes depend on.
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode(errors="replace")

    def report(self, project: str, *sub_jobs: Mapping[str, Any], token: Optional[str] = None) -> Dict[str, int]:
        """Reports subtasks in one step. Returns how many were created, updated, unchanged and stale.

        `job_type` is CREATE_SERVER and `job_id` is "job" unless they are given.
        """
        records = [{"job_type": "CREATE_SERVER", "job_id": "job", **sub_job} for sub_job in sub_jobs]
        path = f"/v1/{quote(project, safe='')}/app-server-sub-jobs/actions/report"
        outcome: Dict[str, int] = self._call("POST", self.internal + path, records, token or self.worker_token)
        return outcome

    def count(self, project: str, *, token: Optional[str] = None, **filters: str) -> int:
        """Counts the subtasks that match `status`, `job_type` and `job_id`."""
        path = f"/v1/{quote(project, safe='')}/app-server-sub-jobs/actions/count"
        query = "?" + urlencode(filters) if filters else ""
        return int(self._call("GET", self.public + path + query, None, token or self.token)["count"])

    def reset(self) -> int:
        """Deletes all subtasks, removes all faults and sets the clock back. Returns how many subtasks were deleted."""
        return int(self.control("POST", "/reset")["deleted"])

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request to the internal listener, without a credential, and returns the JSON of its response."""
        return self._call(method, self.internal + path, body, None)

    def _call(self, method: str, url: str, body: Any, token: Optional[str]) -> Any:
        parts = urlsplit(url)
        headers = {"Connection": "close"}
        if token:
            headers["X-Auth-Token"] = token
        sent = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            sent = json.dumps(body).encode()
        # Without urllib's opener, which would use a proxy of the environment.
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, sent, headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        finally:
            connection.close()
        answer = json.loads(text) if text else {}
        if status >= 400:
            raise SubjobsError(status, answer.get("error_code", ""), answer.get("error_msg", ""))
        return answer


class Faults:
    """The fault rules of a server. docs/contract.md of subjobs describes a rule."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def set(self, *rules: Mapping[str, Any]) -> List[Dict[str, Any]]:
        """Replaces all rules, for example by `{"operation": "CountSubJobs", "status": 503, "times": 2}`."""
        return self._rules(self._server.control("PUT", "/faults", {"rules": list(rules)}))

    def list(self) -> List[Dict[str, Any]]:
        """The rules, each with its `hits`."""
        return self._rules(self._server.control("GET", "/faults"))

    def clear(self) -> None:
        """Removes all rules."""
        self._server.control("DELETE", "/faults")

    @staticmethod
    def _rules(answer: Mapping[str, Iterable[Dict[str, Any]]]) -> List[Dict[str, Any]]:
        return [dict(rule) for rule in answer["rules"]]


class Clock:
    """The clock by which subtasks and tokens of a server expire."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def now(self) -> datetime:
        """The time of the server."""
        return self._time(self._server.control("GET", "/clock"))

    def set(self, time: datetime) -> datetime:
        """Sets the clock, which then goes on. `time` must have a time zone."""
        if time.tzinfo is None:
            raise ValueError("the time must have a time zone")
        return self._time(self._server.control("PUT", "/clock", {"now": time.isoformat()}))

    def advance(self, by: timedelta) -> datetime:
        """Sets the clock ahead, or back."""
        offset = self._server.control("GET", "/clock")["offset_seconds"] + by.total_seconds()
        return self._time(self._server.control("PUT", "/clock", {"offset_seconds": offset}))

    def reset(self) -> datetime:
        """Sets the clock back to that of the system."""
        return self._time(self._server.control("DELETE", "/clock"))

    @staticmethod
    def _time(answer: Mapping[str, Any]) -> datetime:
        # Python before 3.11 reads neither nanoseconds nor Z.
        seconds, _, rest = str(answer["now"]).rstrip("Z").partition(".")
        return datetime.fromisoformat(f"{seconds}.{rest[:6]:0<6}+00:00")
