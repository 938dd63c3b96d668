"""Video, HDF5, NumPy and Zarr files come back: pixels, calibration and times."""

import av
import h5py
import numpy as np
import pytest
import zarr

from jaxmicro.data import read
from jaxmicro.errors import DataError


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


def test_hdf5_largest_and_chosen(tmp_path, frames, same):
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


def test_data_exchange(tmp_path, frames, same):
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


def test_hyperspy_hdf5_and_zarr(tmp_path, frames, same):
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


def test_numpy_files(tmp_path, frames, same):
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
def test_zarr(tmp_path, frames, version, same):
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


def test_ome_zarr(tmp_path, frames, same):
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
