"""Runs the examples of docs/testing.md. Rust's own tests run those in Rust."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "testing.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def blocks(language):
    found = [text for name, text in BLOCKS if name == language]
    assert found, language
    return found


def run(command, directory):
    done = subprocess.run(command, cwd=directory, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def with_program(tmp_path, monkeypatch):
    """A directory, and `subjobs` on the path."""
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "subjobs").symlink_to(os.environ["SUBJOBS_BIN"])
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.delenv("SUBJOBS_BIN")
    return tmp_path


def test_every_example_is_run():
    assert {name for name, _ in BLOCKS} == {"sh", "json", "python", "js", "rust"}


def test_the_commands_print_what_the_page_says(with_program):
    # What curl prints has no line end.
    lines = lambda text: re.sub(r"\}(?=[^,\]}\s])", "}\n", text).split()
    assert lines(run(["sh", "-eu", "-c", "".join(blocks("sh"))], with_program)) == lines("".join(blocks("json")))


def test_the_python_example_passes(with_program):
    (with_program / "test_example.py").write_text("\n".join(blocks("python")))
    said = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"], with_program)
    assert "4 passed" in said, said


def test_the_node_example_passes(with_program):
    modules = with_program / "node_modules"
    modules.mkdir()
    (modules / "subjobs-testing").symlink_to(ROOT / "clients" / "node-subjobs")
    (with_program / "example.test.mjs").write_text("\n".join(blocks("js")))
    assert re.search(r"pass 3\b", run(["node", "--test", "example.test.mjs"], with_program))
