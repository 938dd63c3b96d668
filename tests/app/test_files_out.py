"""What a run leaves behind opens calibrated, and in its place, in the programs of its users.

The movie has pixels that are not square, a crop and a range of frames; each reader must find the
scale, unit, origin and time of every axis.
"""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import rsciio.hspy
import rsciio.tiff
import tifffile
import xarray as xr
from reading_back import read_back

from jaxmicro.app import tiff
from jaxmicro.app.hspy import write_hspy
from jaxmicro.app.quantify import maps
from jaxmicro.app.tiff import Channel, Grid, size_note, write_stack
from jaxmicro.data.read import read_mask, read_movie
from jaxmicro.growth.columns import COLUMNS

SIZE_UM = (0.0282, 0.03)  # y, x
STEP_S = 0.6
CROP, FRAMES = (3, 23, 5, 33), (4, 9)
OFFSET = (3, 5)
TIMES_S = STEP_S * np.arange(*FRAMES)
SHAPE = (5, 20, 28)
MODEL = "[mixture]\nclasses = 2\nshare = ['means', 'sds']\n[foreground]\nrule = 'brightest'\n"


def _movie():
    """(t, y, x) uint8: a bright half plane that grows by one column a frame."""
    noise = np.random.default_rng(8).normal(0, 6, (12, 26, 36))
    inside = np.arange(36) < 10 + np.arange(12)[:, None, None]
    return (np.where(inside, 180, 60) + noise).round().astype(np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "movie.tif"
    grid = Grid((1000 * SIZE_UM[0], 1000 * SIZE_UM[1]), times_s=STEP_S * np.arange(12))
    values = _movie()
    write_stack(path, iter(values), values.shape, grid)
    path.with_name("m.toml").write_text(MODEL, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def out(ran, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files") / "out"
    y0, y1, x0, x1 = CROP
    ran(
        "quantify", source, "--model", source.with_name("m.toml"), "--out", folder,
        "--crop", f"{y0}:{y1},{x0}:{x1}", "--frames", f"{FRAMES[0]}:{FRAMES[1]}",
        "--rate", 0.4, "--thickness", "0.5 um", "--overlay", "--hspy", "--excel",
        "--figures", "svg", "--figure-width", "one",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=["ImageJ", "OME-BigTIFF"])
def stack(request, tmp_path_factory):
    """A stack of two channels as either format, its path and its values."""
    path = tmp_path_factory.mktemp("stack") / "stack.tif"
    values = np.random.default_rng(2).integers(0, 255, (5, 2, *SHAPE[1:]), dtype=np.uint8)
    grid = Grid(
        (1000 * SIZE_UM[0], 1000 * SIZE_UM[1]), OFFSET, TIMES_S, np.arange(*FRAMES), source="m"
    )
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "ImageJ":
            patch.setattr(tiff, "LARGEST_IMAGEJ", 1000)
        channels = [Channel("foreground"), Channel("class", shown=(0.0, 4.0))]
        planes = (plane for frame in values for plane in frame)
        write_stack(path, planes, values.shape, grid, channels=channels)
    return path, values


def _as_imagej(path):
    """Calibration by the rules of ImageJ's TiffDecoder and FileOpener, from the tags alone."""
    with tifffile.TiffFile(path) as file:
        tags = {tag.code: tag.value for tag in file.pages[0].tags}
        n_pages = len(file.pages)
    lines = [line.split("=", 1) for line in tags[270].splitlines() if "=" in line]
    keys = {key: value for key, value in lines}
    assert lines[0][0] == "ImageJ"
    for number in (*tags[282], *tags[283]):
        assert number < 2**31  # they are read as signed integers
    counts = [int(keys.get(key, 1)) for key in ("frames", "slices", "channels")]
    assert np.prod(counts) == n_pages == int(keys["images"])
    pixel = {axis: tags[code][1] / tags[code][0] for axis, code in (("x", 282), ("y", 283))}
    first = {axis: -float(keys.get(f"{axis}origin", 0)) * pixel[axis] for axis in "xy"}
    return pixel, first, keys


def _check_imagej(path):
    pixel, first, keys = _as_imagej(path)
    assert (pixel["y"], pixel["x"]) == pytest.approx(SIZE_UM, rel=1e-9)
    assert keys["unit"] == "micron"
    assert float(keys["finterval"]) == pytest.approx(STEP_S)
    assert keys["tunit"] == "s"
    assert first["y"] == pytest.approx(OFFSET[0] * SIZE_UM[0])
    assert first["x"] == pytest.approx(OFFSET[1] * SIZE_UM[1])


def _check_hyperspy(axes):
    """Axes of a signal as HyperSpy gets them: names differ from format to format, numbers not."""
    found = {a["name"]: (a["scale"], a["offset"], a["units"]) for a in axes}
    for names, scale, offset, unit in (
        (("time",), STEP_S, TIMES_S[0], "s"),
        (("height", "y"), SIZE_UM[0], OFFSET[0] * SIZE_UM[0], "µm"),
        (("width", "x"), SIZE_UM[1], OFFSET[1] * SIZE_UM[1], "µm"),
    ):
        (name,) = set(names) & set(found)
        assert found[name] == (pytest.approx(scale), pytest.approx(offset), unit)


def test_each_reader_finds_scale_unit_origin_and_time(stack):
    path, values = stack
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TCYX"
        np.testing.assert_array_equal(file.asarray(), values)
        if file.is_imagej:
            _check_imagej(path)
        else:
            assert file.is_bigtiff
            assert file.ome_metadata.count('PositionY="0.0846" PositionYUnit="µm"') == 10
    (signal,) = rsciio.tiff.file_reader(path)
    _check_hyperspy(signal["axes"])
    movie = read_movie(path)
    assert movie.pixel_size_nm == pytest.approx([1000 * s for s in SIZE_UM])
    np.testing.assert_allclose(movie.times_s, TIMES_S)
    np.testing.assert_array_equal(np.stack(list(movie)), values[:, 0])
    assert "the first of its 2 channels was read" in movie.warnings


def test_times_that_are_not_even_are_kept(tmp_path):
    times = np.array([3.0, 3.5, 4.2, 4.7])
    grid = Grid((20.0, 20.0), times_s=times)
    values = np.ones((4, 6, 7), np.uint8)
    write_stack(tmp_path / "a.tif", iter(values), values.shape, grid)
    np.testing.assert_allclose(read_movie(tmp_path / "a.tif").times_s, times)
    assert _as_imagej(tmp_path / "a.tif")[2]["finterval"] == "0.5"


def test_what_is_not_known_is_not_written(tmp_path):
    values = np.ones((4, 6, 7), np.float32)
    write_stack(tmp_path / "a.tif", iter(values), values.shape, Grid(), dtype=np.float32)
    keys = _as_imagej(tmp_path / "a.tif")[2]
    assert not {"unit", "finterval", "xorigin", "spacing"} & set(keys)
    (signal,) = rsciio.tiff.file_reader(tmp_path / "a.tif")
    assert {a["units"] for a in signal["axes"]} == {None}
    movie = read_movie(tmp_path / "a.tif")
    assert movie.pixel_size_nm is None
    assert movie.times_s is None


def test_more_than_4_gib_is_said():
    assert size_note("labels.tif", (4000, 2, 700, 700), np.uint8) is None
    assert "OME-BigTIFF" in size_note("labels.tif", (4000, 2, 800, 800), np.uint8)


def test_labels_lie_over_the_movie(out):
    _check_imagej(out / "labels.tif")
    (signal,) = rsciio.tiff.file_reader(out / "labels.tif")
    _check_hyperspy(signal["axes"])
    with tifffile.TiffFile(out / "labels.tif") as file:
        meta, (labels, classes) = file.imagej_metadata, np.moveaxis(file.asarray(), 1, 0)
    assert meta["Labels"][2] == "frame 5, 3 s, foreground"
    assert "source_frames: 4 5 6 7 8" in meta["Info"]
    assert "foreground classes: 1" in meta["Info"]
    assert meta["Ranges"] == (0, 255, 0, 2)
    np.testing.assert_array_equal(classes, np.select([labels == 127, labels == 255], [1, 2]))
    # what was visited is a mask again
    visited = read_mask(out / "labels.tif", SHAPE)
    np.testing.assert_array_equal(visited, labels > 0)


def test_hspy_has_the_axes_and_the_values_of_the_tiff(out):
    (signal,) = rsciio.hspy.file_reader(out / "labels.hspy")
    _check_hyperspy(signal["axes"])
    assert [a["name"] for a in signal["axes"]] == ["time", "channel", "y", "x"]
    assert [a["navigate"] for a in signal["axes"]] == [True, True, False, False]
    np.testing.assert_array_equal(signal["data"], tifffile.imread(out / "labels.tif"))
    assert signal["original_metadata"] == {
        "offset_px": list(OFFSET),
        "source_frames": list(range(*FRAMES)),
    }


def test_overlay_is_a_composite_of_the_movie_and_its_foreground(out):
    _check_imagej(out / "overlay.tif")
    with tifffile.TiffFile(out / "overlay.tif") as file:
        meta, (grey, marks) = file.imagej_metadata, np.moveaxis(file.asarray(), 1, 0)
    assert meta["mode"] == "composite"
    y0, y1, x0, x1 = CROP
    np.testing.assert_array_equal(grey, _movie()[slice(*FRAMES), y0:y1, x0:x1])
    assert meta["Ranges"][2:] == (0, 255)
    np.testing.assert_array_equal(meta["LUTs"][1][:, -1], [0xD5, 0x5E, 0x00])
    labels = tifffile.imread(out / "labels.tif")[:, 0]
    assert set(np.unique(marks)) == {0, 255}
    assert np.all(labels[marks > 0] == 255)
    # of the visited foreground pixels only those among four others are not marked
    assert (marks > 0).sum() > 0.9 * (labels == 255).sum()


def test_an_outline_is_a_line():
    disc = np.hypot(*np.mgrid[-9:10, -9:10]) < 7
    found = maps.edge(disc)
    inner = np.hypot(*np.mgrid[-9:10, -9:10]) < 5
    assert not found[inner].any()
    assert not found[~disc].any()
    assert not maps.edge(np.ones((4, 5), bool)).any()  # the frame's border ends nothing


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("uint8", "uint8"), ("uint16", "uint16"), ("int16", "float32"), ("float64", "float32")],
)
def test_an_overlay_keeps_grey_values(dtype, kept):
    assert maps.overlay_dtype(np.dtype(dtype)) == kept


def test_the_place_in_the_source_is_in_every_table(out):
    with xr.open_dataset(out / "fit.nc", engine="h5netcdf") as data:
        assert data["source_frame"].values.tolist() == list(range(*FRAMES))
        np.testing.assert_allclose(data["time"].values, TIMES_S)
        assert data.attrs["offset_px"].tolist() == list(OFFSET)
        assert data.attrs["frame_shape_px"].tolist() == list(SHAPE[1:])
    record = json.loads((out / "run.json").read_text("utf-8"))["movie"]
    assert record["source_frames"] == [4, 8]
    assert record["offset_px"] == list(OFFSET)
    assert record["shape"] == list(SHAPE)
    assert record["first_time_s"] == pytest.approx(TIMES_S[0])
    table = pd.read_csv(out / "growth.csv")
    np.testing.assert_allclose(table["time_s"], TIMES_S)
    assert table["source_frame"].tolist() == list(range(*FRAMES))
    assert set(table["foreground_classes"]) == {1}
    # one column of 20 pixels a frame; the mean of five rates of two samples each
    rate, se = table["growth_um2_per_s"].mean(), table["growth_um2_per_s_se"].mean()
    assert abs(rate - 20 * np.prod(SIZE_UM) / STEP_S) < 3 * se


def test_every_file_opens_and_the_page_shows_the_figures(out):
    read_back(out)
    page = (out / "report.html").read_text("utf-8")
    assert page.count("data:image/svg+xml;base64,") == len(list((out / "figures").iterdir())) == 4


def test_the_workbook_holds_numbers_and_says_what_they_are(out):
    sheets = pd.read_excel(out / "growth.xlsx", sheet_name=None, keep_default_na=False)
    table = pd.read_csv(out / "growth.csv")
    growth = sheets["growth"]
    assert list(growth.columns) == list(table.columns)
    np.testing.assert_allclose(growth["area_um2"].astype(float), table["area_um2"], rtol=1e-5)
    # what is not known is an empty cell, no zero
    np.testing.assert_array_equal(growth.to_numpy() == "", table.isna().to_numpy())
    assert list(sheets["columns"]["column"]) == list(COLUMNS)


def test_stacks_are_written_a_plane_at_a_time(tmp_path):
    shape, grid = (100, 256, 256), Grid()
    planes = (np.full(shape[1:], t, np.uint8) for t in range(shape[0]))
    tracemalloc.start()
    write_stack(tmp_path / "a.tif", planes, shape, grid)
    write_hspy(tmp_path / "a.hspy", tmp_path / "a.tif", shape, grid)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the stack has 6.6 MB; a plane, its compressed copy and the libraries' buffers stay below 2.5
    assert most < 2.5e6
