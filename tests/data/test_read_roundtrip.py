"""What a test writes comes back: pixels, calibration and times, frame by frame and lazily."""

import av
import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as PillowImage

from jaxmicro.data import read
from jaxmicro.data.read import stack as stack_module
from jaxmicro.data.read import units
from jaxmicro.errors import DataError, UsageError


@pytest.fixture
def frames(rng):
    return rng.integers(0, 255, (6, 10, 14), dtype=np.uint8)


def same(movie, frames):
    assert movie.shape == frames.shape
    assert movie.images.dtype == frames.dtype
    for t in (5, 0, 3, 4, 1, 2):  # out of order: nothing depends on reading forward
        np.testing.assert_array_equal(np.asarray(movie.images[t]), frames[t])


# -- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nm", 1.0),
        ("um", 1e3),
        ("µm", 1e3),
        ("μm", 1e3),
        ("\\u00B5m", 1e3),
        ("micron", 1e3),
        ("Å", 0.1),
        ("\u212b", 0.1),
        ("A", 0.1),
        ("Angstrom", 0.1),
        ("pm", 1e-3),
        ("mm", 1e6),
        ("m", 1e9),
        ("[n_m]", 1.0),
        (b"nm\0", 1.0),
        ("nm/px", 1.0),
    ],
)
def test_lengths(unit, nm):
    assert units.to_nm(1.0, unit) == pytest.approx(nm, rel=1e-12)


@pytest.mark.parametrize(
    "unit",
    ["1/nm", "nm^-1", "nm**2", "pixel", "", "s", "eV", "9**9**9**9", "__import__('os')", None],
)
def test_not_lengths(unit):
    assert units.to_nm(1.0, unit) is None


def test_times_and_useless_scales():
    assert units.to_s(40, "ms") == pytest.approx(0.04)
    assert units.to_s(2, "min") == pytest.approx(120.0)
    assert units.to_s(1, "m") is None
    assert units.to_nm(0.0, "nm") is None
    assert units.to_nm(float("nan"), "nm") is None


# -- TIFF ----------------------------------------------------------------------------------------


def test_imagej_tiff(tmp_path, frames):
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
def test_ome_tiff(tmp_path, frames, compression):
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
def test_plain_tiff(tmp_path, frames, options):
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


# -- video, HDF5, NumPy, Zarr --------------------------------------------------------------------


def write_video(path, frames, codec, pixel_format):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.options = {"crf": "0"} if codec == "libx264" else {}
        for frame in frames:
            kind = "gray" if frame.ndim == 2 else "rgb24"
            picture = av.VideoFrame.from_ndarray(frame, format=kind).reformat(format=pixel_format)
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "off"),
    [
        ("raw.avi", "rawvideo", "gray", 0),
        ("ffv1.avi", "ffv1", "gray", 0),
        # 220 levels of limited-range video: at most one grey level is lost
        ("h264.mp4", "libx264", "yuv420p", 1),
        ("h264.mov", "libx264", "yuv420p", 1),
    ],
)
def test_video(tmp_path, rng, name, codec, pixel_format, off):
    frames = rng.integers(0, 255, (70, 16, 32), dtype=np.uint8)
    path = tmp_path / name
    write_video(path, frames, codec, pixel_format)
    movie = read.read_movie(path)
    assert movie.shape == frames.shape
    assert movie.images.dtype == np.uint8
    for t in (69, 0, 33, 34, 2, 68, 1):
        assert np.abs(movie.images[t].astype(int) - frames[t]).max() <= off
    np.testing.assert_allclose(movie.times_s, 0.2 * np.arange(70), atol=1e-6)
    assert any("5 frames/s" in w for w in movie.warnings)


def test_hdf5_largest_and_chosen(tmp_path, frames):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        movie = file.create_dataset("run/movie", data=frames, chunks=(1, 10, 14))
        movie.attrs["element_size_um"] = [1.0, 0.2, 0.1]
        file["run/dark"] = frames[:2]
        file["names"] = ["a", "b"]
    movie = read.read_movie(path)
    same(movie, frames)
    assert movie.pixel_size_nm == pytest.approx((200.0, 100.0))
    same_two = read.read_movie(f"{path}::/run/dark")
    assert same_two.shape == (2, 10, 14)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["run/movie"] = frames
        file["run/other"] = frames
    with pytest.raises(DataError, match=r"run/movie.*run/other") as caught:
        read.read_movie(tmp_path / "two.h5")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="there is no nosuch"):
        read.read_movie(f"{path}::nosuch")


def test_data_exchange(tmp_path, frames):
    path = tmp_path / "aps.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = frames
        file["exchange/data_white"] = np.repeat(frames, 3, axis=0)  # larger, but not the data
        file["exchange/theta"] = np.linspace(0.0, 150.0, 6)
        size = file.create_dataset(
            "measurement/instrument/detector/actual_pixel_size_x", data=[0.0232]
        )
        size.attrs["units"] = "micron"
        file["measurement/instrument/detector/actual_pixel_size_y"] = 23.2e-9  # metres
    movie = read.read_movie(path)
    same(movie, frames)
    assert movie.axes[0] == "tilt: 6 from 0 to 150 degree"
    assert movie.times_s is None
    assert movie.pixel_size_nm == pytest.approx((23.2, 23.2))


def test_hyperspy_hdf5_and_zarr(tmp_path, frames):
    axes = [("time", 0.5, "s", True), ("y", 2.0, "Å", False), ("x", 2.0, "Å", False)]

    def fill(root, data):
        root.attrs["file_format"] = "HyperSpy"
        group = root.create_group("Experiments").create_group("film")
        data(group)
        for i, (name, scale, unit, navigate) in enumerate(axes):
            axis = group.create_group(f"axis-{i}")
            axis.attrs.update(
                {"name": name, "scale": scale, "units": unit, "offset": 1.0, "navigate": navigate}
            )

    with h5py.File(tmp_path / "a.hspy", "w") as file:
        fill(file, lambda g: g.create_dataset("data", data=frames))
    root = zarr.open_group(tmp_path / "a.zspy", mode="w", zarr_format=2)
    fill(root, lambda g: g.create_array("data", data=frames, chunks=(1, 10, 14)))
    for name in ("a.hspy", "a.zspy"):
        movie = read.read_movie(tmp_path / name)
        same(movie, frames)
        assert movie.pixel_size_nm == pytest.approx((0.2, 0.2))
        np.testing.assert_allclose(movie.times_s, 1.0 + 0.5 * np.arange(6))


def test_numpy_files(tmp_path, frames):
    np.save(tmp_path / "a.npy", frames)
    np.save(tmp_path / "f.npy", np.asfortranarray(frames.astype(">f4")))
    np.savez(tmp_path / "a.npz", images=frames, pixel_size_nm=2.0, times_s=np.arange(6.0) ** 2)
    same(read.read_movie(tmp_path / "a.npy"), frames)
    same(read.read_movie(tmp_path / "f.npy"), frames.astype(np.float32))
    movie = read.read_movie(tmp_path / "a.npz")
    same(movie, frames)
    assert movie.pixel_size_nm == (2.0, 2.0)
    np.testing.assert_array_equal(movie.times_s, np.arange(6.0) ** 2)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path, frames, version):
    array = zarr.create_array(
        tmp_path / "one.zarr", data=frames, chunks=(1, 10, 14), zarr_format=version
    )
    array.attrs["pixel_size_nm"] = 3.0
    array.attrs["frame_interval_s"] = 0.25
    movie = read.read_movie(tmp_path / "one.zarr")
    same(movie, frames)
    assert movie.pixel_size_nm == (3.0, 3.0)
    assert movie.frame_interval_s == 0.25
    group = zarr.open_group(tmp_path / "many.zarr", mode="w", zarr_format=version)
    group.create_array("a/big", data=frames)
    group.create_array("a/small", data=frames[:2])
    same(read.read_movie(tmp_path / "many.zarr"), frames)
    assert read.read_movie(f"{tmp_path}/many.zarr::a/small").n_frames == 2
    assert len(read.sha256(tmp_path / "many.zarr")) == 64


def test_ome_zarr(tmp_path, frames):
    group = zarr.open_group(tmp_path / "ngff.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=frames[:, None])
    group.create_array("1", data=frames[:, None, ::2, ::2])
    units_of = [("t", "second"), ("c", None), ("y", "micrometer"), ("x", "micrometer")]
    group.attrs["ome"] = {
        "multiscales": [
            {
                "axes": [{"name": n, "unit": u} for n, u in units_of],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [0.5, 1.0, 0.02, 0.03]}
                        ],
                    }
                ],
            }
        ]
    }
    movie = read.read_movie(tmp_path / "ngff.zarr")
    same(movie, frames)
    assert movie.pixel_size_nm == pytest.approx((20.0, 30.0))
    assert movie.frame_interval_s == pytest.approx(0.5)


# -- colour, axes, folders -----------------------------------------------------------------------


def test_colour_becomes_luminance_and_grey_stays(tmp_path, rng):
    colour = rng.integers(0, 255, (9, 11, 3), dtype=np.uint8)
    PillowImage.fromarray(colour).save(tmp_path / "colour.png")
    image = read.read_image(tmp_path / "colour.png")
    assert image.values.dtype == np.float32
    # 601 luminance of 8 bits in float32: half a unit in the last place of 255 is 1.5e-5
    np.testing.assert_allclose(image.values, colour @ [0.299, 0.587, 0.114], atol=1e-4)
    assert any("luminance" in w for w in image.warnings)
    grey = np.repeat(colour[..., :1], 4, axis=-1)
    grey[..., 3] = 128  # alpha
    PillowImage.fromarray(grey).save(tmp_path / "grey.png")
    image = read.read_image(tmp_path / "grey.png")
    assert image.values.dtype == np.uint8
    np.testing.assert_array_equal(image.values, colour[..., 0])
    assert image.warnings == ()
    movie = np.stack([colour, colour[::-1]])
    tifffile.imwrite(tmp_path / "rgb.tif", movie, photometric="rgb")
    found = read.read_movie(tmp_path / "rgb.tif")
    assert found.shape == (2, 9, 11)
    np.testing.assert_allclose(found.frame(1), movie[1] @ [0.299, 0.587, 0.114], atol=1e-4)


def test_axes_by_label(tmp_path, frames):
    tifffile.imwrite(tmp_path / "tc.tif", frames[:, None], imagej=True, metadata={"axes": "TCYX"})
    same(read.read_movie(tmp_path / "tc.tif"), frames)
    four = np.stack([frames, frames], axis=1)
    tifffile.imwrite(tmp_path / "tcyx.tif", four, imagej=True, metadata={"axes": "TCYX"})
    with pytest.raises(DataError, match=r"t \(6\), channel \(2\), y \(10\), x \(14\)"):
        read.read_movie(tmp_path / "tcyx.tif")
    array = np.moveaxis(frames, 0, 2)  # a spectrum image: y, x are navigated, the rest is signal
    axes = [
        stack_module.Axis("y", 10, signal=False),
        stack_module.Axis("x", 14, signal=False),
        stack_module.Axis("Energy", 6, 0.5, "eV", signal=True),
    ]
    found = stack_module.stack_of_array(array, axes, "test", "spectra")
    np.testing.assert_array_equal(np.asarray(found.frames), frames)
    assert found.axes[0].text() == "Energy: 6 steps of 0.5 eV"


def test_complex_values_are_refused(tmp_path, frames):
    np.save(tmp_path / "c.npy", frames.astype(np.complex64))
    with pytest.raises(DataError, match="complex"):
        read.read_movie(tmp_path / "c.npy")


def test_folder_in_natural_order_and_its_odd_file(tmp_path, frames):
    for t in range(6):
        PillowImage.fromarray(frames[t]).save(tmp_path / f"t{2 * t}.png")  # t2 before t10
    (tmp_path / "notes.txt").write_text("not an image")
    same(read.read_movie(tmp_path), frames)
    same(read.read_movie(f"{tmp_path}/*.png"), frames)
    PillowImage.fromarray(frames[0, :5]).save(tmp_path / "t7.png")
    with pytest.raises(DataError, match=r"t7\.png: has 5 x 14 pixels, but t0\.png has 10 x 14"):
        read.read_movie(tmp_path)
