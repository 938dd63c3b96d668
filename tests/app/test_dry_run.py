"""--dry-run says what would be done and writes nothing."""

import re

from jaxmicro.app.progress import Stages, duration


def test_a_dry_run_of_quantify(ran, phantom, model, tmp_path):
    text = ran(
        "quantify", phantom / "movie.tif", "--model", model, "--rate", "20%", "--dry-run",
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert "data: 6 frame(s) of 64 x 64 pixels, 819 visited in each (20 %)" in text
    assert re.search(r"in all: about \d+ s on this machine", text)
    assert "nothing was written" in text
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_enhance(ran, tmp_path):
    ran("phantom", "stem-txm", "--out", tmp_path / "s", "--size", 96, "--n-slices", 3)
    (tmp_path / "m.toml").write_text(
        '[dictionary]\nvariant = "coupled"\npatch_size = 4\natoms = 16\npatches = 30000\n'
    )
    text = ran(
        "enhance", "--train", tmp_path / "s/stem_0.tif", "--apply", tmp_path / "s/txm.tif",
        "--model", tmp_path / "m.toml", "--out", tmp_path / "o", "--dry-run",
    )  # fmt: skip
    assert "data: 3 slice(s) of 96 x 96 pixels" in text
    assert re.search(r"learning: 30000 patches, about \d+ s", text)
    assert re.search(r"coding: about \d+ s a slice, \d+ s in all", text)
    assert not list(tmp_path.glob("o*"))


def test_what_is_left_is_said_where_there_is_no_terminal(monkeypatch):
    from rich.console import Console

    from jaxmicro.app import progress

    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    console = Console(record=True, width=100)
    with Stages(console).stage("enhance", 4, unit="slices") as advance:
        for _ in range(4):
            advance()
    text = console.export_text()
    assert re.search(r"1 of 4 slices, about \d+ (s|min) left", text)
    assert "4 of 4" not in text


def test_durations_are_in_the_unit_that_a_person_would_use():
    assert [duration(s) for s in (3.4, 89.0, 120.0, 5000.0, 9000.0)] == [
        "3 s", "89 s", "2 min", "83 min", "2.5 h",
    ]  # fmt: skip
