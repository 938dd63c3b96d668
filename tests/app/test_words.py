"""What users type is understood or answered in one line; help is whole at 80 columns."""

import re
import typing

import numpy as np
import pytest
from typer.testing import CliRunner

from jaxmicro.app import options
from jaxmicro.app.cli import app
from jaxmicro.app.enhance.run import _of_slices
from jaxmicro.errors import UsageError


@pytest.mark.parametrize(
    ("text", "nm"),
    [("28.2 nm", 28.2), ("28.2NM", 28.2), ("0.5 um", 500.0), (".5 µm", 500.0), ("3e-2 um", 30.0)],
)
def test_lengths(text, nm):
    assert options.length_nm(text, "--pixel-size") == pytest.approx(nm, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0.6 s", 0.6), ("200 ms", 0.2), ("1.667 fps", 1 / 1.667), ("25 Hz", 0.04), ("2min", 120.0)],
)
def test_durations(text, seconds):
    assert options.duration_s(text, "--frame-interval") == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(("text", "share"), [("0.1", 0.1), ("10%", 0.1), ("10 %", 0.1), ("1", 1)])
def test_shares(text, share):
    assert options.share(text, "--rate") == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (options.length_nm, "0,5 um", "has a comma; write the number with a point"),
        (options.length_nm, "1,500 nm", "without thousands separators"),
        (options.length_nm, "28.2", 'has no unit; write for example "28.2 nm"'),
        (options.length_nm, "-3 nm", "must be above 0"),
        (options.length_nm, "28.2 parsnips", "is not understood"),
        (options.length_nm, "3 s", "is not understood"),
        (options.length_nm, "nm", "is not understood"),
        (options.length_nm, "1.2.3 nm", "is not understood"),
        (options.duration_s, "0 fps", "'0 fps' is not allowed; it must be above 0"),
        (options.duration_s, "0.6", 'has no unit; write for example "0.6 s"'),
        (options.duration_s, "0.6 nm", "is not understood"),
        (options.share, "10", "for 10 percent write 10%"),
        (options.share, "a tenth", "give a share such as 0.1 or 10%"),
        (options.share, "nan", "give a share such as 0.1 or 10%"),
    ],
)
def test_what_is_wrong_is_said(parse, text, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        parse(text, "--x")


def test_a_note_about_the_interval_is_not_given_with_it(ran, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    grey = np.where(np.indices((40, 50))[0] > 25, 170, 70) + rng.integers(-12, 12, (4, 40, 50))
    images = [Image.fromarray(g.astype(np.uint8)) for g in grey]
    path = tmp_path / "m.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=200)
    (tmp_path / "m.toml").write_text("[mixture]\nclasses = 2\n[foreground]\nrule = 'brightest'\n")
    common = ("quantify", path, "--model", tmp_path / "m.toml")
    assert "give --frame-interval" in ran(*common, "--out", tmp_path / "a")
    text = ran(*common, "--out", tmp_path / "b", "--frame-interval", "2 fps")
    assert "--frame-interval" not in text


COMMANDS = {c.name or c.callback.__name__: c.callback for c in app.registered_commands}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_whole_at_80_columns(command):
    text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"}, color=False).stdout
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())
    for name, kind in typing.get_type_hints(COMMANDS[command], include_extras=True).items():
        given = getattr(kind, "__metadata__", [None])[0]
        if given is not None and given.help and not getattr(given, "hidden", False):
            help_text = " ".join(given.help.replace("\\[", "[").split())
            # Columns are wrapped beside other columns; each of the words must be there.
            assert all(word in words for word in help_text.split()), (name, help_text)


def test_a_note_names_its_slices():
    assert _of_slices("too noisy", ["a slice 3"], 1) == "too noisy"
    assert _of_slices("too noisy", ["a slice 3"], 9) == "a slice 3: too noisy"
    assert (
        _of_slices("too noisy", ["a slice 3", "a slice 5"], 9) == "a slice 3 and 1 more: too noisy"
    )
    assert _of_slices("too noisy", ["a", "b"], 2) == "all 2 slices: too noisy"
