"""TIFF files come back: pixels, calibration and times, frame by frame and lazily."""

import numpy as np
import pytest
import tifffile

from jaxmicro.data import read
from jaxmicro.errors import UsageError


def test_imagej_tiff(tmp_path, frames, same):
    path = tmp_path / "ij.tif"
    meta = {"axes": "TYX", "unit": "um", "finterval": 0.6}
    # 4 pixels per um across, 5 down
    tifffile.imwrite(path, frames, imagej=True, resolution=(4.0, 5.0), metadata=meta)
    movie = read.read_movie(path)
    same(movie, frames)
    assert movie.pixel_size_nm == pytest.approx((200.0, 250.0))
    np.testing.assert_allclose(movie.times_s, 0.6 * np.arange(6))
    assert movie.saturation == 255.0
    other = read.read_movie(path, pixel_size_nm=(1.5, 2.5), frame_interval_s=2)
    assert other.pixel_size_nm == (1.5, 2.5)
    assert other.frame_interval_s == 2.0
    with pytest.raises(UsageError, match="pixel size"):
        read.read_movie(path, pixel_size_nm=-1.0)


def test_imagej_reciprocal_unit_is_no_pixel_size(tmp_path, frames):
    path = tmp_path / "fft.tif"
    meta = {"axes": "ZYX", "unit": "1/nm", "spacing": 3.0}
    tifffile.imwrite(path, frames, imagej=True, resolution=(4.0, 4.0), metadata=meta)
    movie = read.read_movie(path)
    assert movie.pixel_size_nm is None
    assert movie.times_s is None
    assert any("not a length" in w for w in movie.warnings)


def test_imagej_volume_has_its_spacing(tmp_path, frames):
    path = tmp_path / "z.tif"
    meta = {"axes": "ZYX", "unit": "nm", "spacing": 30.0}
    tifffile.imwrite(path, frames, imagej=True, resolution=(0.1, 0.1), metadata=meta)
    volume = read.read_volume(path)
    assert volume.spacing_nm == pytest.approx(30.0)
    assert volume.load().pixel_size_nm == pytest.approx((30.0, 10.0, 10.0))
    one = volume.slice(2)
    np.testing.assert_array_equal(one.values, frames[2])
    assert one.pixel_size_nm == pytest.approx((10.0, 10.0))
    assert [s.values.shape for s in volume] == [(10, 14)] * 6


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_tiff(tmp_path, frames, compression, same):
    path = tmp_path / "movie.ome.tif"
    meta = {
        "axes": "TYX",
        "PhysicalSizeX": 28.2,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.03,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": 600.0,
        "TimeIncrementUnit": "ms",
    }
    tifffile.imwrite(path, frames.astype(np.uint16), metadata=meta, compression=compression)
    movie = read.read_movie(path)
    same(movie, frames.astype(np.uint16))
    assert movie.pixel_size_nm == pytest.approx((30.0, 28.2))
    np.testing.assert_allclose(movie.times_s, 0.6 * np.arange(6))


def test_ome_planes_say_when_each_frame_was_taken(tmp_path, frames):
    path = tmp_path / "planes.ome.tif"
    seconds = [0.0, 0.5, 1.1, 1.6, 2.4, 3.0]
    meta = {
        "axes": "TYX",
        "TimeIncrement": 0.6,
        "SignificantBits": 7,
        "Plane": {"DeltaT": seconds, "DeltaTUnit": ["s"] * 6},
    }
    tifffile.imwrite(path, frames, metadata=meta)
    movie = read.read_movie(path)
    np.testing.assert_allclose(movie.times_s, seconds)


@pytest.mark.parametrize(
    "options",
    [{}, {"metadata": None}, {"compression": "lzw"}, {"bigtiff": True}, {"byteorder": ">"}],
    ids=["plain", "pages", "lzw", "bigtiff", "bigendian"],
)
def test_plain_tiff(tmp_path, frames, options, same):
    path = tmp_path / "plain.tif"
    wide = frames.astype(np.uint16) * 257
    tifffile.imwrite(path, wide, **options)
    movie = read.read_movie(path)
    same(movie, wide)
    assert movie.pixel_size_nm is None
    assert movie.saturation == 65535.0


@pytest.mark.parametrize(
    ("resolution", "unit", "size_nm"),
    [
        (72.0, "INCH", None),
        (2400.0, "INCH", None),
        (1e6, "CENTIMETER", 10.0),
        (10.0, "CENTIMETER", None),
    ],
)
def test_resolution_tags_count_where_plausible(tmp_path, frames, resolution, unit, size_nm):
    path = tmp_path / "dpi.tif"
    tifffile.imwrite(
        path, frames, resolution=(resolution, resolution), resolutionunit=unit, metadata=None
    )
    size = read.read_movie(path).pixel_size_nm
    assert size == (None if size_nm is None else pytest.approx((size_nm, size_nm)))


def test_twelve_bits_in_sixteen(tmp_path, frames):
    path = tmp_path / "bits.tif"
    tag = (341, "H", 1, 4095, True)  # SMaxSampleValue
    tifffile.imwrite(path, frames.astype(np.uint16) * 16, extratags=[tag], metadata=None)
    assert read.read_movie(path).saturation == 4095.0


def test_one_frame_reads_one_page(tmp_path, frames, monkeypatch):
    """A compressed movie decodes only the pages asked for, a plain one is memory mapped."""
    path = tmp_path / "lzw.tif"
    tifffile.imwrite(path, frames, compression="lzw")
    decoded = set()
    for kind in (tifffile.TiffPage, tifffile.TiffFrame):
        original = kind.asarray

        def counted(page, *args, _original=original, **options):
            decoded.add(page.index)
            return _original(page, *args, **options)

        monkeypatch.setattr(kind, "asarray", counted)
    movie = read.read_movie(path)
    assert decoded == set()
    np.testing.assert_array_equal(movie.images[4], frames[4])
    assert decoded == {4}


def test_a_movie_larger_than_memory_would_allow(tmp_path):
    """A sparse file of 64 GiB opens and gives its last frame: nothing reads the rest."""
    shape = (65536, 1024, 1024)
    path = tmp_path / "huge.npy"
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, np.uint8)) | {"shape": shape}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.seek(stream.tell() + int(np.prod(shape)) - 1)
        stream.write(b"\x07")
    movie = read.read_movie(path)
    assert movie.shape == shape
    assert movie.frame(65535)[-1, -1] == 7.0
