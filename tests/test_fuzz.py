"""Damaged files of every format: one clear line or an answer, never a crash, quick and small.

`make slow` damages each file 1000 times; the short version runs with the other tests.
"""

import json
import os
import subprocess
import sys

import av
import fuzzing
import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as PillowImage

needs_fork = pytest.mark.skipif(
    not (hasattr(os, "fork") and hasattr(os, "pidfd_open")),
    reason="needs os.fork and os.pidfd_open (Linux)",
)
# made files that the long version goes through, one of each format; the short one takes them all
LONG = ("plain.tif", "ome.ome.tif", "a.gif", "a.mp4", "a.npy", "packed.npz", "three.zarr", "a.h5")
SHOWN = ("file", *fuzzing.COLUMNS)
FIGURES = ("peak_gib", "slowest_s", "total_s")


def _frames():
    """4 frames of 24 x 24: two classes with noise."""
    rng = np.random.default_rng(5)
    left = np.arange(24) < 12
    return np.where(left, rng.normal(60, 9, (4, 24, 24)), rng.normal(170, 9, (4, 24, 24))).astype(
        np.uint8
    )


def _video(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 24
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = np.repeat(frame[..., None], 3, axis=-1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _made(folder):
    """One small file of each format that needs no instrument."""
    folder.mkdir()
    frames = _frames()
    tifffile.imwrite(folder / "plain.tif", frames, photometric="minisblack")
    tifffile.imwrite(folder / "zlib.tif", frames, photometric="minisblack", compression="zlib")
    tifffile.imwrite(folder / "ome.ome.tif", frames, metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "imagej.tif", frames, imagej=True, metadata={"finterval": 0.5})
    pictures = [PillowImage.fromarray(f) for f in frames]
    pictures[0].save(folder / "a.gif", save_all=True, append_images=pictures[1:], duration=50)
    for name in ("a.png", "a.jpg", "a.bmp"):
        pictures[0].save(folder / name)
    _video(folder / "a.mp4", frames)
    np.save(folder / "a.npy", frames)
    np.savez(folder / "a.npz", movie=frames, pixel_size_nm=2.0)
    np.savez_compressed(folder / "packed.npz", movie=frames)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("exchange/data", data=frames, chunks=(1, 24, 24), compression="gzip")
    with h5py.File(folder / "plain.hdf5", "w") as file:
        file["movie"] = frames
    zarr.create_array(folder / "two.zarr", data=frames, chunks=(1, 24, 24), zarr_format=2)
    zarr.create_array(folder / "three.zarr", data=frames, chunks=(1, 24, 24), zarr_format=3)
    return sorted(folder.iterdir())


def _fuzz(work, sources, cases, every):
    """The table's rows, from a process that has never started JAX."""
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    plain |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, fuzzing.__file__, work, str(cases), str(every), *sources]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _show(rows, columns=(*SHOWN, *FIGURES)):
    lines = [columns]
    for row in rows:
        cells = (row[c] for c in columns)
        lines.append([f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.rjust(n) for text, n in zip(line, widths, strict=True)))
    for example in (e for row in rows for e in row["examples"]):
        print(example)


def _all_handled(rows, cases):
    assert all(row["cases"] == cases and row["refused"] + row["read"] == cases for row in rows)
    assert not [row["file"] for row in rows if any(row[column] for column in fuzzing.BAD)]


@needs_fork
def test_a_handful_of_damaged_files_of_each_format(tmp_path):
    sources = _made(tmp_path / "sources")
    rows = _fuzz(tmp_path / "work", sources, cases=len(fuzzing.DAMAGES), every=0)
    _show(rows)
    _all_handled(rows, len(fuzzing.DAMAGES))
    assert sum(row["read"] for row in rows) > 0 < sum(row["refused"] for row in rows)


@needs_fork
@pytest.mark.slow
def test_a_thousand_damaged_files_of_each_format(tmp_path, data_dir, capsys):
    if not (data_dir / "formats").is_dir():
        pytest.skip(f"no folder formats in {data_dir}; set JAXMICRO_DATA to the data's folder")
    real = [f for f in (data_dir / "formats").iterdir() if f.suffix != ".txt"]
    made = [f for f in _made(tmp_path / "sources") if f.name in LONG]
    rows = []
    for source in [*made, *sorted(real)]:  # a small server forks quickly
        rows += _fuzz(tmp_path / "work", [source], cases=1000, every=40)
    with capsys.disabled():
        _show(rows)
    _all_handled(rows, 1000)
    assert sum(row["quantified"] for row in rows) > 0


def test_damage_is_the_same_each_time():
    raw = bytes(range(256)) * 8
    for case in range(len(fuzzing.DAMAGES)):
        assert fuzzing.damaged(raw, "x", case) == fuzzing.damaged(raw, "x", case) != raw


def test_every_column_is_told():
    def faults(status, err, seconds=1.0, peak=0.1):
        return fuzzing.Outcome(status, "", err, seconds, peak).faults()

    assert faults(0, "") == faults(1, "jaxmicro: a.tif: cannot be read\n") == set()
    assert faults(1, "") == faults(0, "a warning\n") == faults(1, "one\ntwo\n") == {"lines"}
    assert faults(-11, "") == {"crash", "lines"}
    assert faults(1, "Traceback (most recent call last):\n") == {"traceback"}
    assert faults(1, "slow\n", seconds=121.0, peak=4.1) == {"time", "memory"}
