"""TVIPS recordings that rosettasciio wrote come back: pixels, pitch, and times of the frames."""

import struct

import numpy as np
import pytest
from rsciio.tvips import file_writer

from jaxmicro.data import read
from jaxmicro.errors import DataError

HEADER, FRAME_HEADER = 256, 60  # bytes


@pytest.fixture
def written(tmp_path, frames):
    """Writes the frames, 3 nm a pixel and 0.25 s a frame; the path of the first file."""

    def write(frames=frames, unit="nm", pitch=3.0, **options):
        # The writer takes the pitch from the first of four axes and the interval from the second.
        steps, units = (pitch, 0.25, pitch, pitch), ("", "s", unit, unit)
        axes = [
            {"size": n, "scale": s, "units": u, "offset": 0, "navigate": i < 2}
            for i, (n, s, u) in enumerate(zip((1, *frames.shape), steps, units, strict=True))
        ]
        signal = {"data": frames, "axes": axes, "metadata": {}, "attributes": {"_lazy": False}}
        file_writer(str(tmp_path / "a.tvips"), signal, show_progressbar=False, **options)
        return tmp_path / "a_000.tvips"

    return write


def altered(path, at, new):
    raw = bytearray(path.read_bytes())
    raw[at : at + len(new)] = new
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", [0, 4])
def test_a_recording(written, frames, same, dtype, extra):
    path = written(frames.astype(dtype), frame_header_extra_bytes=extra)
    movie = read.read_movie(path)
    same(movie, frames.astype(dtype))
    assert movie.pixel_size_nm == (3.0, 3.0)
    np.testing.assert_array_equal(movie.times_s, 0.25 * np.arange(6))
    assert movie.saturation == np.iinfo(dtype).max


def test_a_recording_in_several_files_is_one_movie(written, frames, same):
    """One frame in the first file, two in the next ones; each counts in the checksum."""
    path = written(max_file_size=HEADER + FRAME_HEADER + 140)
    assert len(list(path.parent.iterdir())) == 4
    same(read.read_movie(path), frames)
    before = read.sha256(path)
    later = altered(path.with_name("a_003.tvips"), 100, b"\xff")
    assert read.sha256(path) != before
    with pytest.raises(DataError, match=r"a_003.tvips: is a later part .* give a_000.tvips"):
        read.read_movie(later)
    path.with_name("a_002.tvips").unlink()
    with pytest.raises(DataError, match=r"part 002 of the recording is not beside it"):
        read.read_movie(path)


def test_times_are_those_of_the_frames(written, frames):
    """A frame that came late is late; clocks that stand still tell no time."""
    record = FRAME_HEADER + frames[0].size
    late = altered(written(), HEADER + 5 * record + 4, struct.pack("<II", 7, 500))
    np.testing.assert_array_equal(read.read_movie(late).times_s, [0, 0.25, 0.5, 0.75, 1.0, 7.5])
    still = altered(written(), HEADER + record + 4, struct.pack("<II", 0, 0))
    assert read.read_movie(still).times_s is None


def test_what_is_not_known_is_not_claimed(written, frames):
    """A pitch below half a nanometre is stored as 0; a diffraction pattern has no pitch in nm."""
    assert read.read_movie(written(pitch=0.2)).pixel_size_nm is None
    assert read.read_movie(written(unit="1/nm")).pixel_size_nm is None
    one = read.read_movie(written(frames[:1]))
    assert one.times_s is None
    assert one.shape == (1, 10, 14)


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (4, 7, "is not a TVIPS recording of version 2"),  # version
        (16, 12, "is not a TVIPS recording of version 2"),  # bits per pixel
        (8, 0, "sizes that no recording has"),  # width
        (8, 2**31, "cannot be read as TVIPS"),
        (48, 4, "sizes that no recording has"),  # bytes of a frame's header
    ],
)
def test_damaged_headers_are_refused(written, at, value, says):
    with pytest.raises(DataError, match=says):
        read.read_movie(altered(written(), at, struct.pack("<I", value)))


def test_a_recording_cut_short_is_refused(written):
    path = written()
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"a_000.tvips: cannot be read as TVIPS .* truncated"):
        read.read_movie(path)
