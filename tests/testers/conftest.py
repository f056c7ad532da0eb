"""The options of the server for all tests here."""

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def subjobs_args():
    return ["--retain-finished", "30d", "--job-type", "ADDED"]


@pytest.fixture(scope="session")
def subjobs_env():
    return {"RUST_LOG": "debug"}
