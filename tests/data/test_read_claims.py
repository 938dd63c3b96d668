"""Headers that claim more than the file can hold: one line, and no memory taken for it."""

import json
import pathlib
import shutil
import struct
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as PillowImage

from jaxmicro.data import read
from jaxmicro.data.read import xradia
from jaxmicro.data.read.claims import ALWAYS_ALLOWED, LARGEST_RATIO, refuse_impossible
from jaxmicro.errors import DataError

FRAMES = np.arange(4 * 24 * 24, dtype=np.uint16).reshape(4, 24, 24)


def _zarr(folder):
    zarr.create_array(folder / "a.zarr", data=FRAMES, chunks=(1, 24, 24), zarr_format=2)
    metadata = json.loads((folder / "a.zarr" / ".zarray").read_text())
    (folder / "a.zarr" / ".zarray").write_text(json.dumps(metadata | {"shape": [10**11, 24, 24]}))
    return folder / "a.zarr"


def _hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("movie", (10**11, 24, 24), np.uint16, chunks=(1, 24, 24))
    return folder / "a.h5"


def _npz(folder):
    """An archive whose array's header claims a petabyte."""
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({10**11}, 24, 24), }}"
    header = header.ljust(117) + "\n"
    raw = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + FRAMES.tobytes()
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr("movie.npy", raw)
    return folder / "a.npz"


def _gif(folder):
    pictures = [PillowImage.fromarray((f % 251).astype(np.uint8)) for f in FRAMES]
    pictures[0].save(folder / "a.gif", save_all=True, append_images=pictures[1:])
    raw = bytearray((folder / "a.gif").read_bytes())
    raw[6:10] = struct.pack("<HH", 13_000, 13_000)  # four frames of half a gigabyte
    (folder / "a.gif").write_bytes(raw)
    return folder / "a.gif"


def _ome(folder):
    tifffile.imwrite(folder / "a.ome.tif", FRAMES, metadata={"axes": "TYX"})
    description = tifffile.tiffcomment(folder / "a.ome.tif").encode()
    assert b'SizeT="4"' in description
    huge = description.replace(b'SizeT="4"', b'SizeT="99999999999"')
    tifffile.tiffcomment(folder / "a.ome.tif", huge)
    return folder / "a.ome.tif"


def _imagej(folder):
    tifffile.imwrite(folder / "a.tif", FRAMES, imagej=True)
    description = tifffile.tiffcomment(folder / "a.tif").encode()
    assert b"images=4" in description
    tifffile.tiffcomment(folder / "a.tif", description.replace(b"images=4", b"images=99999999999"))
    return folder / "a.tif"


@pytest.mark.parametrize("make", [_zarr, _hdf5, _npz, _gif, _ome, _imagej])
def test_a_claim_that_cannot_be_true(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(DataError, match="its header claims an array of") as caught:
        read.describe(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/status").exists(),
    reason="needs /proc/self/status (Linux)",
)
def test_a_refused_claim_takes_no_memory(tmp_path):
    code = (
        "import sys\nfrom jaxmicro.data.read import describe\n"
        "from jaxmicro.errors import DataError\n"
        "try:\n    describe(sys.argv[1])\nexcept DataError:\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))"
    )
    for path in (_ome(tmp_path), _npz(tmp_path)):
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert int(done.stdout) < 500_000  # kB; the imports take about 60 000


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"imagej": True}], ids=str)
def test_pages_in_a_circle(tmp_path, options):
    path = tmp_path / "circle.tif"
    with tifffile.TiffWriter(path, **options) as writer:
        for frame in FRAMES[:1] if options.get("imagej") else FRAMES:
            writer.write(frame, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        tiff, first, last = tif.tiff, tif.pages[0].offset, tif.pages[-1]
        at = last.offset + tiff.tagnosize + len(last.tags) * tiff.tagsize
    raw = bytearray(path.read_bytes())
    raw[at : at + tiff.offsetsize] = struct.pack(tiff.offsetformat, first)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="lead back to an earlier page"):
        read.describe(path)


def test_sparse_stores_and_packed_archives_are_still_read(tmp_path):
    with h5py.File(tmp_path / "sparse.h5", "w") as file:
        movie = file.create_dataset("movie", (5000, 64, 64), np.uint8, chunks=(1, 64, 64))
        movie[3] = 9
    assert read.read_movie(tmp_path / "sparse.h5").shape == (5000, 64, 64)
    np.savez_compressed(tmp_path / "zeros.npz", movie=np.zeros((90, 1000, 1000), np.uint8))
    assert read.read_movie(tmp_path / "zeros.npz").shape == (90, 1000, 1000)


def test_a_virtual_dataset_holds_its_pixels_elsewhere(tmp_path):
    shape = (64, 1024, 2048)  # 128 MiB, of which the file itself holds nothing
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file.create_dataset("data", shape, np.uint8, chunks=(1, 1024, 2048))[0] = 7
    layout = h5py.VirtualLayout(shape, np.uint8)
    layout[...] = h5py.VirtualSource(tmp_path / "part.h5", "data", shape)
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file.create_virtual_dataset("movie", layout)
    assert (tmp_path / "master.h5").stat().st_size * LARGEST_RATIO + ALWAYS_ALLOWED < 2**27
    movie = read.read_movie(tmp_path / "master.h5")
    assert movie.shape == shape
    assert movie.frame(0).max() == 7


def test_the_bound(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(bytes(1000))
    refuse_impossible(file, (10**7 // 4, 1), np.float32, allowed=0)
    with pytest.raises(DataError, match="2500001 x 1"):
        refuse_impossible(file, (10**7 // 4 + 1, 1), np.float32, allowed=0)
    refuse_impossible(file, (64, 1024, 1024), np.uint8)


def test_an_xradia_file_that_announces_two_billion_images(data_dir, tmp_path, monkeypatch):
    path = tmp_path / "chip.txrm"
    shutil.copyfile(data_dir / "formats" / "txrm_test_chip_tomo.txrm", path)
    honest = xradia.open_xradia(path)
    figures = xradia._figures

    def announced(ole, name, kind, path, needed=True):
        found = figures(ole, name, kind, path, needed)
        return np.array([2**31 - 1]) if name == "ImageInfo/NoOfImages" else found

    monkeypatch.setattr(xradia, "_figures", announced)
    stack = xradia.open_xradia(path)
    assert stack.n_frames == honest.n_frames
    assert "planned with 2147483647 images" in stack.warnings[0]
