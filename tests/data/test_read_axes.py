"""Colour, axes by their labels, and folders of images become frames in the right order."""

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from jaxmicro.data import read
from jaxmicro.data.read import stack as stack_module
from jaxmicro.errors import DataError


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


def test_axes_by_label(tmp_path, frames, same):
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


def test_folder_in_natural_order_and_its_odd_file(tmp_path, frames, same):
    for t in range(6):
        PillowImage.fromarray(frames[t]).save(tmp_path / f"t{2 * t}.png")  # t2 before t10
    (tmp_path / "notes.txt").write_text("not an image")
    same(read.read_movie(tmp_path), frames)
    same(read.read_movie(f"{tmp_path}/*.png"), frames)
    PillowImage.fromarray(frames[0, :5]).save(tmp_path / "t7.png")
    with pytest.raises(DataError, match=r"t7\.png: has 5 x 14 pixels, but t0\.png has 10 x 14"):
        read.read_movie(tmp_path)


@pytest.mark.parametrize("count", [3, 4])
def test_a_short_stack_is_not_a_colour_image(tmp_path, rng, count):
    """As tifffile stores an array of three or four images of bytes when it is told nothing."""
    images = rng.integers(0, 255, (count, 24, 31)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "short.tif", images, photometric="rgb", planarconfig="separate")
    movie = read.read_movie(tmp_path / "short.tif")
    np.testing.assert_array_equal(list(movie), images)
    assert f"its {count} images are marked as the colours of one" in movie.warnings[0]


def test_colour_at_the_end_of_an_array_is_colour(tmp_path, rng):
    image = rng.integers(0, 255, (24, 31, 3)).astype(np.uint8)
    np.save(tmp_path / "one.npy", image)
    movie = read.read_movie(tmp_path / "one.npy")
    assert movie.shape == (1, 24, 31)
    np.testing.assert_allclose(movie.frame(0), np.rint(image @ [0.299, 0.587, 0.114]), atol=1)
    np.save(tmp_path / "two.npy", np.stack([image, image]))
    assert read.read_movie(tmp_path / "two.npy").shape == (2, 24, 31)
