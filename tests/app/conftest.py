"""A tiny phantom on disk, shared by the tests of the commands."""

import pathlib

import pytest
from typer.testing import CliRunner

from jaxmicro.app.cli import app

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def run():
    """Run the command line in this process; returns (exit status, stdout, stderr)."""

    def call(*args):
        found = CliRunner().invoke(app, [str(a) for a in args])
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found.exit_code, found.stdout, found.stderr

    return call


@pytest.fixture(scope="session")
def ran(run):
    """Run a command that has to succeed; returns its standard output."""

    def call(*args):
        status, text, err = run(*args)
        assert status == 0, err
        return text

    return call


@pytest.fixture(scope="session")
def phantom(ran, tmp_path_factory):
    """A folder with movie.tif, truth.csv and truth_labels.tif: 6 frames of 64 x 64."""
    folder = tmp_path_factory.mktemp("scene") / "phantom"
    ran("phantom", "operando", "--out", folder, "--n-frames", 6, "--size", 64)
    return folder


@pytest.fixture(scope="session")
def model():
    return ROOT / "models" / "shared_k4.toml"
