"""The README's code runs as it stands, in order, in an empty folder."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCKS = re.findall(
    r"<!-- run -->\n```(sh|python)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number, folder):
    kind, code = BLOCKS[number]
    if kind == "python":
        commands = [[sys.executable, "-c", code]]
    else:
        lines = code.replace("\\\n", " ").strip().splitlines()
        assert all(line.startswith("jaxmicro ") for line in lines)
        start = [sys.executable, "-m", "jaxmicro"]
        commands = [start + shlex.split(line, comments=True)[1:] for line in lines]
    # as a user runs them: the tests' quick road through the compiler makes long learning slow
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    for command in commands:
        done = subprocess.run(
            command, cwd=folder, env=plain, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_both_kinds_of_code_are_there():
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}
