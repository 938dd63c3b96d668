"""--force replaces what a former run wrote and nothing else; a folder is whole, old or new."""

import json
import os
import pathlib

import pytest

from jaxmicro.app import output
from jaxmicro.errors import DataError, UsageError


def _write(out, force=False, name="growth.csv", text="1"):
    with output.new_folder(out, force) as folder:
        (folder / "figures").mkdir()
        (folder / "figures" / "a.png").write_text(text)
        (folder / name).write_text(text)


def _files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


@pytest.fixture
def out(tmp_path):
    """A folder that a former run wrote."""
    _write(tmp_path / "out")
    return tmp_path / "out"


def _nothing_hidden(folder):
    return not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_run_json_lists_every_file_of_the_folder_itself_included(out):
    record = json.loads((out / "run.json").read_text("utf-8"))
    assert record["files"] == _files(out) == ["figures/a.png", "growth.csv", "run.json"]


def test_the_list_joins_the_record_of_the_run(tmp_path):
    with output.new_folder(tmp_path / "out") as folder:
        output.write_json(folder / "run.json", {"jaxmicro": "0", "seed": 3})
    record = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))
    assert record == {"jaxmicro": "0", "seed": 3, "files": ["run.json"]}


def test_force_replaces_a_former_run_whole(out):
    output.check_target(out, force=True)
    _write(out, force=True, name="other.csv", text="2")
    assert _files(out) == ["figures/a.png", "other.csv", "run.json"]
    assert _nothing_hidden(out.parent)


def _raw_data_only(folder):
    (folder / "run.json").unlink()
    return "no run.json that lists figures/a.png and 1 more"


def _notes(folder):
    (folder / "figures" / "notes.txt").write_text("mine")
    (folder / "raw.tif").write_text("mine")
    return "its run.json does not list figures/notes.txt and 1 more"


def _older(folder):
    (folder / "run.json").write_text('{"jaxmicro": "0.1.0"}')
    return "older version, has no list with figures/a.png and 2 more"


def _of_another_program(folder):
    (folder / "run.json").write_text('{"files": ["figures/a.png", "growth.csv", "run.json"]}')
    return "not of jaxmicro"


def _broken(folder):
    (folder / "run.json").write_text("{")
    return "cannot be read"


def _a_link_to_a_folder(folder):
    (folder.parent / "data").mkdir()
    (folder.parent / "data" / "raw.tif").write_text("mine")
    (folder / "data").symlink_to(folder.parent / "data")
    return "does not list data"


@pytest.mark.parametrize(
    "change",
    [_raw_data_only, _notes, _older, _of_another_program, _broken, _a_link_to_a_folder],
)
def test_a_file_that_no_run_wrote_is_refused_at_the_start_and_at_the_end(out, change):
    says = change(out)
    before = _files(out.parent)
    with pytest.raises(UsageError, match=says) as refused:
        output.check_target(out, force=True)
    assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match=rf"{says}.*the finished run is in .*out-new$"):
        _write(out, force=True)
    kept = out.with_name("out-new")
    assert _files(kept) == ["figures/a.png", "growth.csv", "run.json"]
    assert [n for n in _files(out.parent) if not n.startswith("out-new")] == before
    with pytest.raises(DataError, match=r"out-new-2$"):
        _write(out, force=True)
    assert _nothing_hidden(out.parent)


def test_what_appears_during_the_run_keeps_both(out):
    output.check_target(out, force=True)

    def run():
        with output.new_folder(out, force=True) as folder:
            (folder / "growth.csv").write_text("2")
            (out / "notes.txt").write_text("mine")

    with pytest.raises(DataError, match=r"does not list notes\.txt; .*out-new"):
        run()
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "growth.csv").read_text() == "1"
    assert (out.with_name("out-new") / "growth.csv").read_text() == "2"


def test_without_force_a_folder_that_fills_during_the_run_is_left(tmp_path):
    out = tmp_path / "out"

    def run():
        with output.new_folder(out) as folder:
            (folder / "growth.csv").write_text("2")
            _write(out)

    with pytest.raises(DataError, match="has content already"):
        run()
    assert (out / "growth.csv").read_text() == "1"
    assert (out.with_name("out-new") / "growth.csv").read_text() == "2"


def test_files_of_the_operating_system_do_not_count(out):
    for name in (".DS_Store", "figures/Thumbs.db", "desktop.ini"):
        (out / name).write_text("dropped")
    output.check_target(out, force=True)
    _write(out, force=True, text="2")
    assert _files(out) == ["figures/a.png", "growth.csv", "run.json"]
    assert _nothing_hidden(out.parent)


def test_an_empty_folder_and_a_nested_one_are_written(tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        output.check_target(out, force=False)
        _write(out)
        assert "growth.csv" in _files(out)


def test_a_link_stays_and_what_it_points_to_is_replaced(out):
    link = out.with_name("link")
    link.symlink_to(out)
    output.check_target(link, force=True)
    _write(link, force=True, text="2")
    assert link.is_symlink()
    assert (out / "growth.csv").read_text() == "2"
    assert _nothing_hidden(out.parent)


def test_the_current_folder_is_refused_even_when_it_is_empty(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", "..", str(tmp_path / "here")):
        with pytest.raises(UsageError, match="current folder"):
            output.check_target(pathlib.Path(name), force=True)


def test_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match=r"is a file; give another folder$"):
        output.check_target(tmp_path / "out", force=True)


@pytest.mark.parametrize("stop_at", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_at_either_rename_leaves_a_whole_folder(out, monkeypatch, stop_at, error):
    rename, calls = pathlib.Path.rename, []

    def stopping(path, target):
        calls.append(target)
        if len(calls) == stop_at:
            raise error
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", stopping)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else DataError):
        _write(out, force=True, text="2")
    assert (out / "growth.csv").read_text() == "1"
    assert (out.with_name("out-new")).exists() == (error is OSError)  # work is not thrown away
    assert _nothing_hidden(out.parent)


def test_what_a_former_run_left_and_cannot_be_deleted_is_named(out, monkeypatch):
    unlink = pathlib.Path.unlink

    def refusing(path, missing_ok=False):
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(pathlib.Path, "unlink", refusing)
    with pytest.raises(DataError, match=r"the run was written.*kept in .*\.old-.*Permission"):
        _write(out, force=True, text="2")
    assert (out / "growth.csv").read_text() == "2"


def test_a_folder_that_cannot_be_looked_into_counts_as_content(out, monkeypatch):
    (out / "locked").mkdir()
    scandir = os.scandir

    def refusing(folder):  # as for a user without rights, whoever runs this
        if pathlib.Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied", os.fspath(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UsageError, match="does not list locked"):
        output.check_target(out, force=True)
