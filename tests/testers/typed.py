"""A typed test of a user, which the type checker reads."""

from datetime import datetime, timedelta

from pytest_subjobs import Server, StartError, SubjobsError


def test_typed(subjobs: Server) -> None:
    created: int = subjobs.report("p", {"id": "1", "status": "RUNNING"})["created"]
    count: int = subjobs.count("p", status="RUNNING")
    assert created == count
    hits: int = subjobs.faults.set({"status": 503})[0]["hits"]
    now: datetime = subjobs.clock.advance(timedelta(days=hits))
    assert now.tzinfo is not None
    try:
        with Server.start(["--job-type", "NEW"], binary="subjobs", env={"RUST_LOG": "warn"}, token="t") as other:
            url: str = other.public + other.internal + other.token + other.worker_token
            assert other.stop() == 0 and url
    except (StartError, SubjobsError):
        pass
