"""The pytest plugin, as users use it."""

import os
import signal
import sys
import time
from datetime import datetime, timedelta, timezone

import pytest
from pytest_subjobs import Server, StartError, SubjobsError


def wait_until(is_true, what):
    end = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.01)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("_", range(2))
def test_each_test_begins_without_subtasks(subjobs, _):
    assert subjobs.count("p") == 0
    sub_jobs = [{"id": "1", "status": "RUNNING"}, {"id": "2", "status": "FAILED", "job_type": "ADDED", "job_id": "j"}]
    assert subjobs.report("p", *sub_jobs) == {"created": 2, "updated": 0, "unchanged": 0, "stale": 0}
    assert subjobs.report("é?", sub_jobs[0], token=subjobs.token)["created"] == 1
    assert (subjobs.count("p"), subjobs.count("p", job_id="j", job_type="ADDED"), subjobs.count("é?")) == (2, 1, 1)
    subjobs.faults.set({"status": 500})
    subjobs.clock.advance(timedelta(days=1))


def test_errors_have_status_and_code(subjobs):
    for call, status, code in [
        (lambda: subjobs.count("p", token=subjobs.worker_token), 403, "WKS.00081102"),
        (lambda: subjobs.count("p", token="unknown"), 401, "WKS.00211302"),
        (lambda: subjobs.report("p", {"id": "1"}), 400, "WKS.00211102"),
        (lambda: subjobs.control("PUT", "/faults", {"rules": [{}]}), 400, "WKS.00211102"),
    ]:
        with pytest.raises(SubjobsError) as failed:
            call()
        assert (failed.value.status, failed.value.code) == (status, code)


def test_faults_are_set_listed_and_cleared(subjobs):
    [rule] = subjobs.faults.set({"operation": "CountSubJobs", "status": 503, "ratio": 1, "times": 1})
    assert rule["hits"] == 0
    with pytest.raises(SubjobsError, match="503"):
        subjobs.count("p")
    assert subjobs.faults.list()[0]["hits"] == 1
    subjobs.faults.clear()
    assert subjobs.faults.list() == []


def test_the_clock_is_set(subjobs):
    subjobs.report("p", {"id": "1", "status": "SUCCESS"})
    time = datetime(2050, 6, 1, tzinfo=timezone.utc)
    assert time <= subjobs.clock.set(time) <= subjobs.clock.now() < time + timedelta(hours=1)
    assert subjobs.count("p") == 0
    assert subjobs.clock.reset() < time
    with pytest.raises(ValueError):
        subjobs.clock.set(datetime(2050, 6, 1))


def test_options_of_the_environment_change_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("SUBJOBS_LISTEN", "no such address")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Server.start(env={"SUBJOBS_EPHEMERAL_TOKEN": "mine"}) as server:
        assert (server.token, server.count("p")) == ("mine", 0)
        # The line is logged after the addresses are printed.
        wait_until(lambda: "ready" in server.log(), "the log line")
        assert server.stop() == server.stop() == 0
    assert not is_running(server.pid)


def test_a_program_that_cannot_start_says_why(monkeypatch):
    with pytest.raises(StartError, match="unexpected argument '--no-such-option'"):
        Server.start(["--no-such-option"])
    with pytest.raises(StartError, match="No such file"):
        Server.start(binary="/nowhere/subjobs")
    monkeypatch.delenv("SUBJOBS_BIN")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StartError, match="set SUBJOBS_BIN"):
        Server.start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_pytest_leaves_no_server(pytester, number):
    pytester.makepyfile(
        """
        import pathlib, time

        def test_it(subjobs):
            pathlib.Path("pid.new").write_text(str(subjobs.pid))
            pathlib.Path("pid.new").rename("pid")
            time.sleep(300)
        """
    )
    run = pytester.popen([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"])
    try:
        wait_until((pytester.path / "pid").exists, "the test runs")
        server = int((pytester.path / "pid").read_text())
        assert is_running(server)
        os.kill(run.pid, number)
        run.wait(30)
        wait_until(lambda: not is_running(server), "the server ends")
    finally:
        run.kill()
        run.wait()
