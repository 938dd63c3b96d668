"""Every mistake a user makes costs them one line, and leaves nothing half-written."""

import errno
import pathlib

import numpy as np
import pytest
import tifffile

from jaxmicro.app import output
from jaxmicro.errors import DataError


def _frames(n=4, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(100, 20, (n, size, size)).clip(0, 250).astype(np.uint8)


def _saved(folder, values):
    np.save(folder / "movie.npy", values)
    return folder / "movie.npy"


def _missing(folder):
    return folder / "no.tif"


def _empty(folder):
    (folder / "empty.tif").write_bytes(b"")
    return folder / "empty.tif"


def _truncated(folder):
    tifffile.imwrite(folder / "cut.tif", _frames(), photometric="minisblack")
    whole = (folder / "cut.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.tif"


def _text(folder):
    (folder / "words.tif").write_text("not an image")
    return folder / "words.tif"


def _constant(folder):
    values = _frames()
    values[2] = 9
    return _saved(folder, values)


def _saturated(folder):
    values = _frames()
    values[1] = 255
    return _saved(folder, values)


def _two_values(folder):
    return _saved(folder, (_frames() > 100).astype(np.uint8))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_missing, "no such file"),
        (_empty, "empty"),
        (_truncated, "cut"),
        (_text, "words.tif"),
        (_constant, "frame 2 of movie is constant"),
        (_saturated, "frame 1 of movie is saturated everywhere"),
        (_two_values, "2 distinct grey values, too few for 4 classes"),
    ],
)
def test_unusable_files(run, model, tmp_path, make, says):
    status, _, err = run("quantify", make(tmp_path), "--out", tmp_path / "out", "--model", model)
    assert status == 1
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rate", "0"), "rate 0 is not allowed"),
        (("--rate", "-0.1"), "rate -0.1 is not allowed"),
        (("--rate", "1.5"), "rate 1.5 is not allowed"),
        (("--rate", "0.01"), "at least 50 are needed"),
        (("--pattern", "spiral"), "pattern 'spiral'"),
        (("--crop", "0:99,0:10"), "crop 0:99,0:10 does not lie in the frame of 32 rows"),
        (("--crop", "a"), "--crop 'a' is not a box"),
        (("--exclude", "0:32,0:32"), "nothing of the frame is left"),
        (("--frames", "3:9"), "frames 3:9"),
        (("--pixel-size", "28 grams"), "--pixel-size '28 grams'"),
        (("--pixel-size", "-2 nm"), "must be above 0"),
        (("--frame-interval", "fast"), "--frame-interval 'fast'"),
        (("--missing", "none"), "--missing 'none'"),
        (("--baseline", "last"), "--baseline 'last'"),
        (("--model", "no.toml"), "no.toml"),
        (("--missing", "3", "--rate", "0.5"), "sub-sampled already"),
    ],
)
def test_wrong_options_are_named_with_status_2(run, tmp_path, options, says):
    movie = _saved(tmp_path, _frames())
    status, _, err = run("quantify", movie, "--out", tmp_path / "out", *options)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


COMMANDS = {
    "quantify": lambda movie, model: ("quantify", movie, "--model", model),
    "posterior": lambda movie, model: ("posterior", movie, "--model", model),
    "compare": lambda movie, model: ("compare", movie, model),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--visited", "--missing"])
def test_a_sub_sample_is_never_sub_sampled(run, model, tmp_path, command, option):
    frames = _frames()
    tifffile.imwrite(
        tmp_path / "mask.tif", (frames > 100).astype(np.uint8), photometric="minisblack"
    )
    value = tmp_path / "mask.tif" if option == "--visited" else 0
    args = COMMANDS[command](_saved(tmp_path, frames), model)
    status, _, err = run(*args, "--rate", 0.5, option, value, "--out", tmp_path / "out")
    assert status == 2
    assert "--rate 0.5 sub-samples a full movie, but this one is sub-sampled already" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_constant, "frame 2 of movie is constant"),
        (_saturated, "frame 1 of movie is saturated everywhere"),
        (_two_values, "2 distinct grey values, too few for 4 classes"),
    ],
)
def test_every_command_surveys_the_movie(run, model, tmp_path, command, make, says):
    args = COMMANDS[command](make(tmp_path), model)
    status, _, err = run(*args, "--out", tmp_path / "out")
    assert status == 1
    assert says in err
    assert err.count("\n") == 1


def test_a_mask_of_another_shape(run, tmp_path):
    tifffile.imwrite(tmp_path / "mask.tif", np.ones((5, 5), np.uint8))
    movie = _saved(tmp_path, _frames())
    args = ("quantify", movie, "--out", tmp_path / "out", "--visited", tmp_path / "mask.tif")
    status, _, err = run(*args)
    assert status == 1
    assert "the mask of visited pixels has shape (5, 5)" in err


def test_nan_and_infinite_pixels_are_counted_and_left_out(ran, model, phantom, tmp_path):
    movie = tifffile.imread(phantom / "movie.tif").astype(np.float32)
    movie[0, :3, :3] = np.nan
    movie[1, 0, 0] = np.inf
    path = _saved(tmp_path, movie)
    text = ran("quantify", path, "--out", tmp_path / "out", "--model", model)
    assert "10 NaN or infinite pixels in 2 frame(s) were left out" in " ".join(text.split())


def test_a_folder_with_content_is_refused_without_force(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    movie = _saved(tmp_path, _frames())
    status, _, err = run("quantify", movie, "--out", tmp_path / "out")
    assert status == 2
    assert "--force" in err
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"


def test_a_full_disk_leaves_nothing(tmp_path):
    def fill():
        with output.new_folder(tmp_path / "out") as folder:
            (folder / "a.txt").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match="No space left on device"):
        fill()
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing_and_keeps_the_old_folder(tmp_path):
    with output.new_folder(tmp_path / "out") as folder:
        (folder / "old.txt").write_text("old")

    def interrupt():
        with output.new_folder(tmp_path / "out", force=True) as folder:
            (folder / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "old.txt").read_text() == "old"
    with output.new_folder(tmp_path / "out", force=True) as folder:
        pathlib.Path(folder / "new.txt").write_text("new")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"new.txt", "run.json"}


def test_force_never_empties_a_folder_of_the_user(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("keep me")
    args = ("phantom", "operando", "--n-frames", 3, "--size", 32, "--out", tmp_path / "out")
    status, _, err = run(*args, "--force")
    assert status == 2
    assert "notes.txt" in err
    assert err.count("\n") == 1
    assert (tmp_path / "out" / "notes.txt").read_text() == "keep me"
