"""Every real file is read with the shape and units that its raw header states."""

import hashlib
import struct

import h5py
import numpy as np
import pytest
from PIL import Image as PillowImage

from jaxmicro.data import read
from jaxmicro.data.movie import Movie


def test_psc_cells_folder_is_a_calibrated_movie(data_dir):
    movie = read.read_movie(data_dir / "psc_cells" / "frames")
    assert movie.shape == (50, 576, 720)
    assert movie.images.dtype == np.uint8
    # XResolution 6250 per centimetre in every file: 1.6 um, the pitch that the data set states.
    assert movie.pixel_size_nm == pytest.approx((1600.0, 1600.0))
    assert movie.times_s is None
    with PillowImage.open(data_dir / "psc_cells" / "frames" / "t003.tif") as other:
        third = np.asarray(other)
    np.testing.assert_array_equal(movie.frame(3), third.astype(np.float32))
    assert any("resolution tags" in w for w in movie.warnings)


def test_psc_masks_and_globs(data_dir):
    shape = (50, 576, 720)
    masks = read.read_mask(data_dir / "psc_cells" / "masks", shape)
    assert masks.shape == shape
    assert masks.dtype == bool
    assert 0.01 < masks.mean() < 0.1
    ten = read.read_movie(f"{data_dir}/psc_cells/frames/t01?.tif")
    assert ten.shape == (10, 576, 720)


def test_zinc_gif(data_dir):
    movie = read.read_movie(data_dir / "zn_dendrite" / "Video_Zn_Dendrite_growth.gif")
    assert movie.shape == (17, 600, 1000)
    assert movie.times_s is None  # 200 ms is how fast to play it; about 0.6 s is the truth
    assert any("200 ms" in w for w in movie.warnings)
    assert movie.with_interval(0.6).frame_interval_s == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("name", "shape"), [("tomo_00097.png", (1544, 1568)), ("tomo_00087.png", (1193, 1193))]
)
def test_txm_slices(data_dir, name, shape):
    image = read.read_image(data_dir / "txm_nmc" / name, pixel_size_nm=26.9)
    assert image.values.shape == shape
    assert image.values.dtype == np.uint8
    assert image.pixel_size_nm == (26.9, 26.9)
    assert image.saturation == 255.0


def test_stem_jpegs(data_dir):
    for path in sorted((data_dir / "stem_particles").glob("*.jpg")):
        image = read.read_image(path)
        with PillowImage.open(path) as other:
            assert image.values.shape == other.size[::-1] == (2048, 2048)
        assert image.values.ndim == 2
        assert image.pixel_size_nm is None


def test_dm3_image(data_dir):
    image = read.read_image(data_dir / "formats" / "test_STEM_image.dm3")
    assert image.values.shape == (68, 68)
    # 0.24853802 nm stands twice (x and y) as a little-endian float32 in the raw file.
    assert image.pixel_size_nm == pytest.approx((0.24853802, 0.24853802), rel=1e-7)
    raw = (data_dir / "formats" / "test_STEM_image.dm3").read_bytes()
    assert raw.count(struct.pack("<f", image.pixel_size_nm[0])) >= 2
    # The pixels lie in the file as one block of uint32.
    assert image.values.astype("<u4").tobytes() in raw


def test_dm3_stack_is_a_movie_without_times(data_dir):
    path = data_dir / "formats" / "test_stackbuilder_imagestack.dm3"
    movie = read.read_movie(path)
    assert movie.shape == (3, 2, 16)
    assert movie.pixel_size_nm == pytest.approx((59.982903, 59.982903), rel=1e-6)
    assert movie.times_s is None
    assert movie.axes[0] == "z: 3, no unit"
    assert np.asarray(movie.images).astype("<u4").tobytes() in path.read_bytes()


def test_velox_stack_keeps_time_and_scale(data_dir):
    path = data_dir / "formats" / "fei_example_tem_stack.emd"
    movie = read.read_movie(path)
    assert movie.shape == (2, 3, 3)
    assert movie.pixel_size_nm == pytest.approx((8.172883e-3, 8.172883e-3), rel=1e-6)  # pm
    np.testing.assert_allclose(movie.times_s, [0.0, 0.8])
    with h5py.File(path) as file:
        stored = next(iter(file["Data/Image"].values()))["Data"][...]  # (y, x, t)
    np.testing.assert_array_equal(np.asarray(movie.images), stored.transpose(2, 0, 1))


def test_ncem_emd(data_dir):
    path = data_dir / "formats" / "example_signal.emd"
    movie = read.read_movie(path)
    with h5py.File(path) as file:
        stored = file["signals/__unnamed__/data"][...]  # dim1 is x: the axes run (x, y, frame)
    np.testing.assert_array_equal(np.asarray(movie.images), stored.T)
    assert movie.pixel_size_nm is None  # its units are empty brackets


def test_mrc(data_dir):
    path = data_dir / "formats" / "HAADFscan.mrc"
    raw = path.read_bytes()
    nx, ny, nz, mode = struct.unpack("<4i", raw[:16])
    cells = struct.unpack("<3i", raw[28:40])
    lengths_angstrom = struct.unpack("<3f", raw[40:52])
    image = read.read_image(path)
    assert (nz, mode) == (1, 6)
    assert image.values.shape == (ny, nx) == (16, 16)
    pitch = lengths_angstrom[0] / cells[0] / 10.0
    assert pitch == pytest.approx(5.6791, rel=1e-4)
    assert image.pixel_size_nm == pytest.approx((pitch, pitch), rel=1e-6)
    np.testing.assert_array_equal(
        np.sort(image.values, axis=None), np.sort(np.frombuffer(raw[-512:], "<u2"))
    )


@pytest.mark.parametrize("name", ["128x128-TEM_search_1.ser", "128x128-TEM_search.emi"])
def test_ser_and_emi(data_dir, name):
    image = read.read_image(data_dir / "formats" / name)
    assert image.values.shape == (128, 128)
    raw = (data_dir / "formats" / "128x128-TEM_search_1.ser").read_bytes()
    # The element header ends in pixel type (6: int32), width and height; the two calibrations
    # (offset and step in metres as float64, element as int32) stand right before.
    end = raw.index(struct.pack("<hii", 6, 128, 128))
    _, step_x, _, _, step_y, _ = struct.unpack("<ddiddi", raw[end - 40 : end])
    assert image.pixel_size_nm == pytest.approx((step_y * 1e9, step_x * 1e9), rel=1e-12)
    assert step_x == pytest.approx(5.2612142e-9, rel=1e-7)
    # Rows are stored from the bottom up.
    stored = np.frombuffer(raw[end + 10 :], "<i4", count=128 * 128).reshape(128, 128)
    np.testing.assert_array_equal(image.values, stored[::-1])


def test_xradia_images_angles_and_pixel_size(data_dir):
    path = data_dir / "formats" / "txrm_test_chip_tomo.txrm"
    volume = read.read_volume(path)
    assert volume.shape == (7, 256, 256)
    assert volume.slices.dtype == np.uint16
    assert volume.pixel_size_nm == pytest.approx((155.78948, 155.78948), rel=1e-6)
    assert volume.spacing_nm is None
    assert volume.axes[0] == "tilt: 7 from -45.018 to 44.9859 degree"
    assert (int(volume.slices[0].min()), int(volume.slices[0].max())) == (1, 434)
    movie = read.read_movie(path)
    assert isinstance(movie, Movie)
    assert movie.times_s is None


def test_description_and_checksum(data_dir):
    path = data_dir / "formats" / "fei_example_tem_stack.emd"
    told = read.describe(path)
    assert told.shape == (2, 3, 3)
    assert told.dtype == "int16"
    assert told.format == "EMD"
    assert told.frame_interval_s == pytest.approx(0.8)
    assert told.axes[0] == "Time: 2 steps of 0.8 s"
    assert told.value_range == (0.0, 17.0)
    assert told.saturated_share == 0.0
    assert read.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    folder = data_dir / "psc_cells" / "frames"
    lines = "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n"
        for p in sorted(folder.iterdir())
    )
    assert read.sha256(folder) == hashlib.sha256(lines.encode()).hexdigest()
