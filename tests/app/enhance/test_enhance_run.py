"""The run's loop over slices: order, names, notes, what stays in memory; and the stacks' writer."""

import csv
import dataclasses
import gc
import weakref

import numpy as np
import pytest
import tifffile
from rsciio import hspy

from jaxmicro.app.enhance import run as job
from jaxmicro.app.enhance.files import stack_writer, write_metrics
from jaxmicro.app.enhance.images import open_volumes
from jaxmicro.app.enhance.metrics import Metrics
from jaxmicro.app.enhance.training import EnhancePlan, Trained
from jaxmicro.app.enhance.verdict import verdict
from jaxmicro.app.progress import Stages
from jaxmicro.app.tiff import Grid, write_stack
from jaxmicro.data.movie import Image
from jaxmicro.data.read import Volume
from jaxmicro.dictionary.enhance import Dictionary, Enhanced
from jaxmicro.dictionary.noise import white
from jaxmicro.dictionary.stage import CodeStatistics, Stage
from jaxmicro.errors import DataError, UsageError

SHAPE = (6, 5)
KNOWN = dict.fromkeys((f.name for f in dataclasses.fields(Metrics)), 0.5)


def _dictionary():
    nothing = np.zeros((0, 4), np.float32)
    stage = Stage(nothing, np.eye(4, dtype=np.float32), nothing, np.zeros(0, np.float32), 2, 1, 1.0,
                  0.0)  # fmt: skip
    return Dictionary((stage,), "paper", 30.0, 0.0, white(0.1), 0.25, (), np.zeros((0, 3)),
                      np.zeros(0))  # fmt: skip


def _volume(name, first, count):
    values = np.stack([np.full(SHAPE, first + z, np.float32) for z in range(count)])
    return Volume(values, (30.0, 30.0), 40.0, name)


def _double(image, dictionary, plan, reference=None):
    """A stand-in for the coding: twice the slice, its value as the uncertainty."""
    values = image.values
    after = Enhanced(2 * values, values, 0 * values, white(0.1), (CodeStatistics(),), ())
    notes = ("one for all", f"{image.name}: a doubt")
    truth = None if reference is None else reference.values
    return job.SliceResult(image, after, truth, Metrics(**KNOWN | {"slice": image.name}), notes)


@pytest.fixture
def doubling(monkeypatch):
    monkeypatch.setattr(job, "enhance_slice", _double)
    return Trained(_dictionary(), notes=("from the learning",))


def test_slices_of_several_volumes_are_written_in_their_order(doubling, tmp_path):
    volumes = [_volume("a b", 1, 2), _volume("c", 3, 3)]
    truths = [Image(np.full(SHAPE, float(i), np.float32)) for i in range(5)]
    plan = EnhancePlan(evidence=False)
    run = job.enhance_all(volumes, truths, doubling, plan, tmp_path, Stages())
    stacks = {p.name: tifffile.imread(p)[:, 0, 0].tolist() for p in tmp_path.iterdir()}
    assert stacks == {
        "enhanced_a_b.tif": [2, 4], "uncertainty_a_b.tif": [1, 2],
        "enhanced_c.tif": [6, 8, 10], "uncertainty_c.tif": [3, 4, 5],
    }  # fmt: skip
    names = ["a b slice 0", "a b slice 1", *(f"c slice {z}" for z in range(3))]
    assert [row.slice for row in run.metrics] == names
    assert run.notes == (
        "from the learning",
        "all 5 slices: one for all",
        *(f"{name}: a doubt" for name in names),
    )
    assert run.first.before.name == names[0]
    np.testing.assert_array_equal(run.first.reference, truths[0].values)


def test_sources_whose_results_would_have_one_name_are_refused(tmp_path):
    paths = [tmp_path / folder / "a.tif" for folder in ("one", "other")]
    for path in paths:
        path.parent.mkdir()
        tifffile.imwrite(path, np.zeros(SHAPE, np.float32))
    assert len(open_volumes([str(paths[0])], 30.0)) == 1
    with pytest.raises(UsageError, match="2 sources called a"):
        open_volumes([str(path) for path in paths], 30.0)


def test_only_the_first_and_the_present_slice_stay_in_memory(doubling, monkeypatch, tmp_path):
    alive = weakref.WeakSet()
    most = 0

    def watched(*args):
        nonlocal most
        result = _double(*args)
        gc.collect()
        alive.add(result.after)
        most = max(most, len(alive))
        return result

    monkeypatch.setattr(Enhanced, "__hash__", object.__hash__)  # arrays have none
    monkeypatch.setattr(job, "enhance_slice", watched)
    plan = EnhancePlan(evidence=False)
    run = job.enhance_all([_volume("v", 1, 9)], (), doubling, plan, tmp_path, Stages())
    assert len(run.metrics) == 9
    # the one before is let go when the present one takes its name
    assert most <= 3
    assert tifffile.imread(tmp_path / "enhanced.tif").shape == (9, *SHAPE)


def test_stacks_side_by_side_are_the_files_of_one_after_the_other(tmp_path, rng):
    one, other = rng.random((2, 4, *SHAPE)).astype(np.float32)
    paths = [tmp_path / "one.tif", tmp_path / "other.tif"]
    grid = Grid((30.0, 30.0), spacing_nm=50.0, depth=True)
    with stack_writer(paths, one.shape, grid, hspy=True) as write:
        for slices in zip(one, other, strict=True):
            write(*slices)
    for path, values in zip(paths, (one, other), strict=True):
        alone = tmp_path / "alone.tif"
        write_stack(alone, iter(values), values.shape, grid, dtype=np.float32)
        assert path.read_bytes() == alone.read_bytes()
        (signal,) = hspy.file_reader(path.with_suffix(".hspy"))
        np.testing.assert_array_equal(signal["data"], values)
        axes = [(a["name"], a["scale"], a["units"], a["offset"]) for a in signal["axes"]]
        assert axes == [("z", 0.05, "µm", 0), ("y", 0.03, "µm", 0), ("x", 0.03, "µm", 0)]


def test_a_slice_that_cannot_be_enhanced_leaves_no_stack(doubling, monkeypatch, tmp_path):
    def failing(image, *rest):
        if image.name.endswith("slice 2"):
            raise DataError("constant")
        return _double(image, *rest)

    monkeypatch.setattr(job, "enhance_slice", failing)
    plan = EnhancePlan(evidence=False)
    with pytest.raises(DataError, match="constant"):
        job.enhance_all([_volume("v", 1, 4)], (), doubling, plan, tmp_path, Stages())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_figure_is_an_empty_cell(tmp_path):
    row = Metrics(**KNOWN | {"slice": "s", "psnr_db": None, "noise_sd": 1 / 3})
    write_metrics(tmp_path / "metrics.csv", [row, row])
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert (rows[0]["slice"], rows[0]["psnr_db"], rows[0]["noise_sd"]) == ("s", "", "0.333333")


def test_slices_of_different_calibration_or_size_are_refused_before_any_work(tmp_path):
    def slice_of(folder, name, pixel_um, shape=(24, 24)):
        (tmp_path / folder).mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / folder / name, np.zeros(shape, np.float32), imagej=True,
            resolution=(1 / pixel_um, 1 / pixel_um), metadata={"unit": "um"},
        )  # fmt: skip

    slice_of("a", "s0.tif", 0.03)
    slice_of("a", "s1.tif", 0.06)
    with pytest.raises(DataError, match=r"s1\.tif: has pixels of 60 nm, but s0\.tif has 30 nm"):
        open_volumes([str(tmp_path / "a")], None)
    (volume,) = open_volumes([str(tmp_path / "a")], 30.0)  # what the user says holds
    assert volume.pixel_size_nm == (30.0, 30.0)
    pair = [str(tmp_path / "a" / name) for name in ("s0.tif", "s1.tif")]
    with pytest.raises(DataError, match="s1: pixels of 60 nm, but s0 has 30 nm"):
        open_volumes(pair, None)
    slice_of("b", "s0.tif", 0.03)
    slice_of("b", "s1.tif", 0.03, (24, 20))
    with pytest.raises(DataError, match=r"s1\.tif: has 24 x 20 pixels, but s0\.tif has 24 x 24"):
        open_volumes([str(tmp_path / "b")], None)


def test_the_verdict_says_how_much_sharper_and_where_structure_comes_from():
    row = Metrics(**{**KNOWN, "slice": "s", "half_data_before_nm": 80.0})
    row = dataclasses.replace(row, half_data_after_nm=50.0, control_agrees_to_nm=48.0)
    assert verdict(row, of_slice=False) == (
        "sharper by 30 nm (two halves of the data agree down to 80 nm before, 50 nm after); "
        "structure below 48 nm comes from the training images, not from this slice"
    )
    same = dataclasses.replace(row, half_data_after_nm=78.0, control_agrees_to_nm=None)
    assert verdict(same, of_slice=False).startswith("less noisy but no sharper (two halves")
    assert "add nothing: scrambled ones give the same" in verdict(same, of_slice=False)
    worse = dataclasses.replace(row, half_data_after_nm=95.0)
    assert verdict(worse, of_slice=True).startswith("less sharp by 15 nm")
    assert "all structure comes from this slice" in verdict(worse, of_slice=True)
    unknown = dataclasses.replace(row, half_data_after_nm=None, control_correlation=None)
    assert "agree nowhere" in verdict(unknown, of_slice=False)
    assert "without its training images" in verdict(unknown, of_slice=False)
    assert verdict(dataclasses.replace(row, half_data_before_nm=None), of_slice=False) is None
