"""Regions of interest as ImageJ and napari save them, and what counts as one region."""

import numpy as np
import pandas as pd
import pytest
import roifile
import skimage.draw
import tifffile

from jaxmicro.data.movie import Movie
from jaxmicro.data.read import read_roi
from jaxmicro.data.regions import inside, one_region
from jaxmicro.data.sampling import sample
from jaxmicro.errors import DataError, UsageError

SHAPE = (3, 40, 52)


def _roi(path, kind, **fields):
    roi = roifile.ImagejRoi(roitype=kind, **fields)
    roi.tofile(path)
    return path


def _polygon(path, corners, **options):
    """A polygon of (column, row) corners, as ImageJ's tools make it."""
    roifile.ImagejRoi.frompoints(np.asarray(corners, np.float32), **options).tofile(path)
    return path


def _shapes(path, kind, corners, axes=2):
    corners = np.asarray(corners, float)
    lead = {f"axis-{i}": np.full(len(corners), 1.0) for i in range(axes - 2)}
    last = {f"axis-{axes - 2}": corners[:, 0], f"axis-{axes - 1}": corners[:, 1]}
    head = {"index": 0, "shape-type": kind, "vertex-index": np.arange(len(corners))}
    pd.DataFrame(head | lead | last).to_csv(path, index=False)
    return path


def test_polygons_agree_with_scikit_image(rng):
    """Corners are not on pixel centres, where the two may decide otherwise."""
    for _ in range(20):
        corners = rng.uniform(-10, 60, (rng.integers(3, 9), 2))
        ours = inside([corners], SHAPE[1:])
        np.testing.assert_array_equal(ours, skimage.draw.polygon2mask(SHAPE[1:], corners))


def test_an_outline_within_another_cuts_a_hole():
    square = np.array([[-0.5, -0.5], [-0.5, 9.5], [9.5, 9.5], [9.5, -0.5]])
    mask = inside([square, square / 2 + 2.25], (12, 12))  # rows and columns 2.0 to 7.0
    assert mask.sum() == 100 - 25
    assert not mask[3:6, 3:6].any()


def test_imagej_rectangles_and_polygons_hold_the_pixels_they_frame(tmp_path):
    mask = read_roi(
        _roi(tmp_path / "r.roi", roifile.ROI_TYPE.RECT, top=2, left=3, bottom=7, right=9), SHAPE
    )
    assert mask.sum() == 5 * 6
    assert mask[2:7, 3:9].all()
    path = _polygon(tmp_path / "p.roi", [(3, 2), (9, 2), (9, 7), (3, 7)])
    np.testing.assert_array_equal(read_roi(path, SHAPE), mask)


def test_imagej_ovals_agree_with_scikit_image(tmp_path):
    path = _roi(tmp_path / "o.roi", roifile.ROI_TYPE.OVAL, top=4, left=6, bottom=31, right=47)
    rows, cols = skimage.draw.ellipse(17.0, 26.0, 13.5, 20.5, shape=SHAPE[1:])
    expected = np.zeros(SHAPE[1:], bool)
    expected[rows, cols] = True
    np.testing.assert_array_equal(read_roi(path, SHAPE), expected)


def test_a_zip_of_regions_is_their_union_cut_at_the_frame(tmp_path):
    rect = roifile.ROI_TYPE.RECT
    boxes = [(0, 0, 5, 5), (3, 3, 8, 8), (35, 45, 90, 90)]
    rois = [
        roifile.ImagejRoi(roitype=rect, top=t, left=le, bottom=b, right=r, name=f"a{t}")
        for t, le, b, r in boxes
    ]
    roifile.roiwrite(tmp_path / "set.zip", rois)
    assert read_roi(tmp_path / "set.zip", SHAPE).sum() == 25 + 25 - 4 + 5 * 7


@pytest.mark.parametrize("axes", [2, 3])
def test_napari_shapes(tmp_path, axes):
    corners = [[1.5, 2.5], [1.5, 8.5], [6.5, 8.5], [6.5, 2.5]]
    mask = read_roi(_shapes(tmp_path / "s.csv", "rectangle", corners, axes), SHAPE)
    assert mask[2:7, 3:9].all()
    assert mask.sum() == 30
    disc = [[5, 10], [5, 30], [25, 30], [25, 10]]
    mask = read_roi(_shapes(tmp_path / "e.csv", "ellipse", disc, axes), SHAPE)
    rows, cols = np.indices(SHAPE[1:])
    np.testing.assert_array_equal(mask, (rows - 15) ** 2 + (cols - 20) ** 2 < 100)


def test_labels_as_an_image(tmp_path):
    labels = np.zeros(SHAPE[1:], np.uint8)
    labels[5:9, 7:20] = 3
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    np.testing.assert_array_equal(read_roi(tmp_path / "labels.tif", SHAPE), labels > 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: _roi(p / "x.roi", roifile.ROI_TYPE.LINE), "line encloses no area"),
        (lambda p: _polygon(p / "x.roi", [(80, 2), (90, 2), (90, 9)]), "no pixel of the frame"),
        (lambda p: _shapes(p / "x.csv", "path", [[0, 0], [5, 5], [9, 1]]), "encloses no area"),
        (lambda p: _shapes(p / "x.csv", "polygon", [[0, 0], [np.nan, 5], [9, 1]]), "not a number"),
        (lambda p: (p / "x.roi").write_bytes(b"Iout junk") and p / "x.roi", "not a region"),
        (lambda p: (p / "x.csv").write_text("a,b\n1,2\n") and p / "x.csv", "no column index"),
        (lambda p: p / "gone.roi", "there is no such file"),
    ],
)
def test_what_is_no_region_is_refused(tmp_path, make, says):
    with pytest.raises(DataError, match=says):
        read_roi(make(tmp_path), SHAPE)


def test_scans_are_told_from_regions(rng):
    frame = np.zeros((60, 70), bool)
    frame[5:40, 10:60] = True
    assert one_region(frame)
    upper = np.zeros((60, 70), bool)
    upper[:36] = True  # 60 % of the frame
    assert one_region(upper)
    for share in (0.01, 0.3, 0.6, 0.9, 0.98):
        assert not one_region(rng.random((60, 70)) < share)
    lines = np.zeros((60, 70), bool)
    lines[::7] = True
    assert not one_region(lines)
    assert not one_region(np.ones((60, 70), bool))
    assert not one_region(rng.random((3, 60, 70)) < 0.7)


def test_a_rate_inside_a_region_visits_that_share_of_it(rng):
    movie = Movie(rng.normal(size=(2, 40, 52)), name="m")
    region = np.zeros((40, 52), bool)
    region[3:30, 5:45] = True
    pixels = sample(0, movie.within(region), rate=0.25)
    np.testing.assert_array_equal(np.asarray(pixels.n_domain), region.sum())
    np.testing.assert_array_equal(np.asarray(pixels.n_pixels), round(0.25 * region.sum()))
    assert region[np.asarray(pixels.rows), np.asarray(pixels.cols)].all()


def test_regions_that_do_not_fit_are_refused(rng):
    movie = Movie(rng.normal(size=(2, 40, 52)), name="m")
    with pytest.raises(UsageError, match="does not fit m"):
        movie.within(np.ones((40, 40), bool))
    with pytest.raises(UsageError, match="nothing of the frame is left"):
        movie.within(np.zeros((40, 52), bool))
