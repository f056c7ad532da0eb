"""The fixtures. README.md has a table of them."""

from __future__ import annotations

from typing import Dict, Iterator, List

import pytest

from .server import Server


@pytest.fixture(scope="session")
def subjobs_args() -> List[str]:
    """Further options of `subjobs serve`."""
    return []


@pytest.fixture(scope="session")
def subjobs_env() -> Dict[str, str]:
    """Further environment variables of the program."""
    return {}


@pytest.fixture(scope="session")
def subjobs_server(subjobs_args: List[str], subjobs_env: Dict[str, str]) -> Iterator[Server]:
    """A server that runs until the session ends."""
    with Server.start(subjobs_args, env=subjobs_env) as server:
        yield server


@pytest.fixture
def subjobs(subjobs_server: Server) -> Server:
    """The server of the session without subtasks, without faults, and with the time of the system."""
    subjobs_server.reset()
    return subjobs_server
