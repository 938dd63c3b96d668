"""Bad input gives one line of DataError, never a traceback, and nothing in a file is executed."""

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as PillowImage

from jaxmicro.data import read
from jaxmicro.errors import DataError

REAL = [
    "formats/128x128-TEM_search_1.ser",
    "formats/HAADFscan.mrc",
    "formats/example_signal.emd",
    "formats/fei_example_tem_stack.emd",
    "formats/test_STEM_image.dm3",
    "formats/test_stackbuilder_imagestack.dm3",
    "formats/txrm_test_chip_tomo.txrm",
    "psc_cells/frames/t000.tif",
    "zn_dendrite/Video_Zn_Dendrite_growth.gif",
    "txm_nmc/tomo_00087.png",
    "stem_particles/PtC1.jpg",
]


def refused(source, *words):
    with pytest.raises(DataError) as caught:
        read.describe(source)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


def test_missing(tmp_path):
    refused(tmp_path / "nosuch.tif", "no such file")
    refused(f"{tmp_path}/*.tif", "no file matches")
    refused(tmp_path, "no image files")


@pytest.mark.parametrize("suffix", read.SUFFIXES)
def test_empty_and_text_files(tmp_path, suffix):
    empty = tmp_path / f"empty{suffix}"
    empty.touch()
    refused(empty, "empty")
    text = tmp_path / f"text{suffix}"
    text.write_text("this is not an image, " * 100)
    refused(text)


@pytest.mark.parametrize(("field", "value"), [("flags", 1), ("method", 99)], ids=str)
def test_an_npz_that_is_marked_as_encrypted_or_of_an_unknown_compression(tmp_path, field, value):
    path = tmp_path / "a.npz"
    np.savez(path, movie=np.zeros((4, 8, 8), np.uint8))
    raw = bytearray(path.read_bytes())
    at = {"flags": 6, "method": 8}[field]  # in the header of the file; 2 more in the directory's
    raw[raw.index(b"PK\x03\x04") + at] = raw[raw.index(b"PK\x01\x02") + at + 2] = value
    path.write_bytes(raw)
    refused(path, "a.npz")


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_real_files(data_dir, tmp_path, name, share):
    raw = (data_dir / name).read_bytes()
    path = tmp_path / name.rsplit("/", 1)[-1]
    path.write_bytes(raw[: int(len(raw) * share)])
    refused(path, path.name)


def test_truncated_emi_and_lost_ser(data_dir, tmp_path):
    whole = data_dir / "formats" / "128x128-TEM_search.emi"
    path = tmp_path / whole.name
    shutil.copy(whole, path)
    refused(path, "128x128-TEM_search_1.ser")
    shutil.copy(data_dir / "formats" / "128x128-TEM_search_1.ser", tmp_path)
    path.chmod(0o600)
    path.write_bytes(whole.read_bytes()[:30000])
    refused(path)


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"compression": "lzw"}, {"ome": True}])
def test_truncated_tiff_movies(tmp_path, rng, options):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, rng.integers(0, 255, (8, 32, 32), dtype=np.uint8), **options)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    refused(path, "truncated")


def test_damage_met_while_a_frame_is_read(tmp_path, rng):
    path = tmp_path / "movie.tif"
    frames = rng.integers(0, 255, (8, 32, 32), dtype=np.uint8)
    tifffile.imwrite(path, frames, compression="zlib")
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[5].dataoffsets[0]
    raw = bytearray(path.read_bytes())
    raw[at : at + 40] = bytes(40)
    path.write_bytes(bytes(raw))
    movie = read.read_movie(path)
    np.testing.assert_array_equal(movie.frame(4), frames[4].astype(np.float32))
    with pytest.raises(DataError, match=r"movie\.tif: cannot be read as TIFF"):
        movie.frame(5)


def test_a_frame_that_lacks_its_parts(tmp_path, rng, capfd):
    """tifffile fills them with zeros and says so in its log only."""
    path = tmp_path / "movie.tif"
    frames = rng.integers(0, 255, (3, 32, 32), dtype=np.uint8)
    tifffile.imwrite(path, frames, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags[257]  # rows: one strip of 32 where 4 strips are needed
    raw = bytearray(path.read_bytes())
    raw[tag.valueoffset : tag.valueoffset + 2] = (128).to_bytes(2, "little")
    path.write_bytes(bytes(raw))
    refused(path, "truncated or damaged", "segments")
    assert capfd.readouterr().err == ""


class Bomb:
    """Unpickling it raises, so that a test fails if anything is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_pickles_are_never_opened(tmp_path):
    plain = tmp_path / "pickle.npy"
    plain.write_bytes(pickle.dumps(Bomb()))
    refused(plain)
    objects = np.empty((2, 3, 4), object)
    objects[...] = Bomb()
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    refused(tmp_path / "objects.npy")
    np.savez(tmp_path / "objects.npz", images=objects)
    refused(tmp_path / "objects.npz")
    store = tmp_path / "bomb.zarr"
    zarr.create_array(store, data=np.zeros((2, 4, 4), np.uint8), chunks=(1, 4, 4), zarr_format=2)
    metadata = json.loads((store / ".zarray").read_text())
    metadata |= {"filters": [{"id": "pickle", "protocol": 5}], "compressor": None}
    (store / ".zarray").write_text(json.dumps(metadata))
    for name in ("0.0.0", "1.0.0"):
        (store / name).write_bytes(pickle.dumps(Bomb()))
    refused(store, "pickled")


def test_files_under_false_names(tmp_path):
    picture = PillowImage.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    picture.save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "named.tif")  # its content decides
    assert read.read_image(tmp_path / "named.tif").values.shape == (8, 8)
    (tmp_path / "odd.xyz").write_bytes(b"\x01\x02" * 400)
    refused(tmp_path / "odd.xyz", "supported are .tif")


def test_one_frame_and_many(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", np.zeros((8, 9), np.uint8))
    tifffile.imwrite(tmp_path / "two.tif", np.zeros((2, 8, 9), np.uint8))
    one = read.read_movie(tmp_path / "one.tif")
    assert one.shape == (1, 8, 9)
    assert one.warnings == ("one image: taken as a movie of one frame",)
    assert read.read_movie(tmp_path / "two.tif").warnings == ()
    with pytest.raises(DataError, match="2 frames where one image is needed"):
        read.read_image(tmp_path / "two.tif")
    assert read.read_volume(tmp_path / "one.tif").shape == (1, 8, 9)


def test_masks(tmp_path, rng):
    shape = (3, 8, 9)
    visited = rng.random(shape) < 0.3
    np.save(tmp_path / "each.npy", visited)
    PillowImage.fromarray((visited[0] * 200).astype(np.uint8)).save(tmp_path / "all.png")
    nans = np.where(visited[0], 1.0, np.nan)
    tifffile.imwrite(tmp_path / "nan.tif", nans.astype(np.float32))
    np.testing.assert_array_equal(read.read_mask(tmp_path / "each.npy", shape), visited)
    np.testing.assert_array_equal(read.read_mask(tmp_path / "all.png", shape), visited[0])
    np.testing.assert_array_equal(read.read_mask(tmp_path / "nan.tif", shape), visited[0])
    with pytest.raises(DataError, match=r"shape \(8, 9\), but the movie needs \(9, 9\)"):
        read.read_mask(tmp_path / "all.png", (3, 9, 9))
    with pytest.raises(DataError, match=r"shape \(3, 8, 9\), but the movie needs"):
        read.read_mask(tmp_path / "each.npy", (4, 8, 9))


def test_describe_counts_nans_and_saturation(tmp_path):
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    values[1, 2, 3] = np.nan
    values[2, 0, :2] = np.nan
    values[0, 0, 0] = np.inf
    np.save(tmp_path / "nan.npy", values)
    told = read.describe(tmp_path / "nan.npy")
    assert told.nan_count == 3
    assert told.value_range == (1.0, 59.0)
    assert told.saturation is None
    assert told.saturated_share is None
    full = np.zeros((2, 5, 5), np.uint8)
    full[1, 0, :] = 255
    np.save(tmp_path / "full.npy", full)
    assert read.describe(tmp_path / "full.npy").saturated_share == pytest.approx(0.1)


def test_importing_is_quick_because_no_format_library_is_imported():
    code = (
        "import sys, jaxmicro.data.read; "
        "print([m for m in ('rsciio', 'av', 'zarr', 'h5py', 'tifffile', 'PIL', 'pint', 'olefile', "
        "'dask') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
