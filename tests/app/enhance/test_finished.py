"""A run over a volume that is stopped keeps its slices, and the same command goes on from there."""

import shutil

import numpy as np
import pytest
import tifffile

from jaxmicro.app.enhance import run as job
from jaxmicro.app.enhance import training
from jaxmicro.app.enhance.finished import Finished

SETTINGS = '[dictionary]\nvariant = "coupled"\npatch_size = 4\natoms = 16\npatches = 1000\n'


@pytest.fixture(scope="module")
def volume(ran, tmp_path_factory):
    folder = tmp_path_factory.mktemp("volume") / "scene"
    ran("phantom", "stem-txm", "--out", folder, "--size", 64, "--n-slices", 4, "--seed", 2)
    (folder / "small.toml").write_text(SETTINGS)
    return folder


def _command(volume, out, *more):
    return (
        "enhance", "--train", volume / "stem_0.tif", "--apply", volume / "txm.tif", "--out", out,
        "--model", volume / "small.toml", "--psf-fwhm", "60 nm", "--train-fwhm", "15 nm",
        "--no-evidence", *more,
    )  # fmt: skip


@pytest.fixture
def stopping(monkeypatch):
    """Slices are coded until the one of this number, where Ctrl-C is pressed."""

    def at(number):
        seen = []
        enhance_slice = job.enhance_slice

        def one(image, *args):
            seen.append(image.name)
            if len(seen) > number:
                raise KeyboardInterrupt
            return enhance_slice(image, *args)

        monkeypatch.setattr(job, "enhance_slice", one)
        return seen

    yield at
    monkeypatch.undo()


def test_a_stopped_volume_goes_on_and_ends_the_same(
    run, ran, volume, stopping, monkeypatch, tmp_path
):
    whole = tmp_path / "whole"
    ran(*_command(volume, whole))
    assert not (tmp_path / "whole.unfinished").exists()

    out = tmp_path / "out"
    stopping(2)
    status, _, err = run(*_command(volume, out))
    assert status == 1
    assert "the dictionary and 2 finished slices are kept in" in err
    assert "the same command goes on from there" in err
    assert not out.exists()
    monkeypatch.undo()

    status, _, err = run(*_command(volume, out, "--stride", 2))  # other settings
    assert status == 2
    assert "2 finished slices of a run with other settings" in err

    learning = []
    monkeypatch.setattr(training, "build_dictionary", lambda *a, **k: learning.append(1))
    seen = stopping(99)
    text = ran(*_command(volume, out))
    assert "going on with the dictionary and 2 finished slices" in text
    assert [name[-1] for name in seen] == ["0", "2", "3"]  # the first is done again, for the report
    assert not learning
    for name in ("enhanced.tif", "uncertainty.tif"):
        np.testing.assert_array_equal(tifffile.imread(out / name), tifffile.imread(whole / name))
    assert not (tmp_path / "out.unfinished").exists()


def test_force_begins_anew_and_an_early_stop_leaves_nothing(
    run, ran, volume, stopping, monkeypatch, tmp_path
):
    out = tmp_path / "out"
    stopping(1)
    run(*_command(volume, out))
    assert Finished(tmp_path / "out.unfinished").count == 1
    monkeypatch.undo()
    text = ran(*_command(volume, out, "--stride", 2, "--force"))
    assert "going on" not in text
    shutil.rmtree(out)

    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "build_dictionary", stop)
    status, _, err = run(*_command(volume, out))
    assert status == 1
    assert "interrupted; nothing was written" in err
    assert list(tmp_path.iterdir()) == []


def test_a_slice_comes_back_as_it_was(tmp_path, rng):
    from test_enhance_run import KNOWN

    from jaxmicro.app.enhance.finished import Slice
    from jaxmicro.app.enhance.metrics import Metrics

    values, doubt = (rng.random((5, 7)).astype(np.float32) for _ in range(2))
    metrics = Metrics(**KNOWN | {"slice": "a µ slice 3", "psnr_db": 22.125})
    kept = Finished.open(tmp_path / "o", {"seed": 1}, force=False)
    kept.save(3, Slice(values, doubt, metrics, ("a note",)))
    back = Finished.open(tmp_path / "o", {"seed": 1}, force=False).load(3)
    np.testing.assert_array_equal(back.values, values)
    np.testing.assert_array_equal(back.uncertainty, doubt)
    assert (back.metrics, back.notes) == (metrics, ("a note",))
    assert not kept.has(2)
