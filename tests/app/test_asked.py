"""--foreground, --classes, --trend and --share: read, refused in one line, and obeyed."""

import numpy as np
import pytest

from jaxmicro.app.quantify.choose import Asked, made
from jaxmicro.app.quantify.run import quantify
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.errors import UsageError

SHAPE = (2, 24, 32)
LABEL = np.minimum(np.indices(SHAPE[1:])[1] // 8, 2)  # a quarter, a quarter and a half
FILE = Variant.model_validate(
    {
        "mixture": {"classes": 3, "trend": "", "share": ["means", "sds"]},
        "foreground": {"rule": "brightest"},
        "growth": {"estimator": "count"},
    }
)


@pytest.mark.parametrize(
    ("asked", "tables"),
    [
        (Asked(), {}),
        (Asked(classes="3"), {"mixture": {"classes": 3}}),
        (Asked(classes=" 2, 4 ,3"), {}),  # a choice, not a number
        (Asked(trend="x + y"), {"mixture": {"trend": "x + y"}}),
        (Asked(trend="0"), {"mixture": {"trend": ""}}),
        (Asked(trend=""), {"mixture": {"trend": ""}}),
        (Asked(share="means,sds"), {"mixture": {"share": ["means", "sds"]}}),
        (Asked(share="sds"), {"mixture": {"share": ["sds"]}}),
        (Asked(share="none"), {"mixture": {"share": []}}),
        (Asked(foreground="darkest"), {"foreground": {"rule": "darkest"}}),
        (Asked(foreground="grows"), {"foreground": {"rule": "grows"}}),
        (Asked(foreground="0"), {"foreground": {"rule": "ranks", "ranks": [0]}}),
        (Asked(foreground="-1"), {"foreground": {"rule": "ranks", "ranks": [-1]}}),
        (Asked(foreground="1, 2"), {"foreground": {"rule": "ranks", "ranks": [1, 2]}}),
    ],
)
def test_options_are_read(asked, tables):
    assert asked.tables == tables


def test_several_numbers_of_classes_are_a_choice_in_order():
    assert Asked(classes="4,2,3,2").numbers == (2, 3, 4)
    assert Asked().numbers is None


@pytest.mark.parametrize(
    ("options", "named", "allowed"),
    [
        (("--classes", "many"), "--classes 'many'", "such as 3, or several"),
        (("--classes", "2-4"), "--classes '2-4'", "such as 2,3,4"),
        (("--classes", "0"), "--classes 0", "from 1 to 32"),
        (("--classes", "2,40"), "--classes 2,40", "from 1 to 32"),
        (("--share", "weights"), "--share 'weights'", "use means,sds or sds"),
        (("--foreground", "bright"), "--foreground 'bright'", "brightest, darkest"),
        (("--foreground", "ranks"), "--foreground 'ranks'", "-1 (the brightest)"),
        (("--foreground", "1.5"), "--foreground '1.5'", "class ranks such as 0"),
        (("--trend", "x + z"), "'x + z'", "x, y, powers"),
        (("--trend", "1"), "'1'", "x, y, powers"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_says_what_can(run, tmp_path, options, named, allowed):
    path = tmp_path / "movie.npy"
    np.save(path, np.asarray(scene().images))
    status, _, err = run("quantify", path, "--out", tmp_path / "out", *options)
    assert status == 2
    assert named in err
    assert allowed in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_choice_of_classes_is_refused_beside_a_model_file():
    with pytest.raises(UsageError, match=r"--classes 2,3 leaves a choice .* leave out --model"):
        Asked(classes="2,3").over(FILE)


def test_what_was_asked_for_stands_in_the_place_of_the_file():
    changed = Asked(classes="2", trend="x", share="none", foreground="darkest").over(FILE)
    assert changed.mixture.classes == 2
    assert changed.mixture.trend == "x"
    assert changed.mixture.share == []
    assert changed.foreground.rule == "darkest"
    assert changed.growth == FILE.growth
    assert Asked().over(FILE) == FILE
    ranks = made(FILE.model_dump(), {"foreground": {"rule": "ranks", "ranks": [0]}})
    assert Asked(foreground="brightest").over(ranks).foreground.ranks == []


def scene():
    """Three grey values 10 sds apart, in strips of a quarter, a quarter and a half."""
    noise = np.random.default_rng(2).normal(0, 4, SHAPE)
    return Movie((np.array([40.0, 80.0, 120.0])[LABEL] + noise).astype(np.float32))


@pytest.mark.parametrize(
    ("foreground", "classes", "quarters"),
    [
        (None, (2,), 2),
        ("0", (0,), 1),
        ("-1", (2,), 2),
        ("1,2", (1, 2), 3),
        ("darkest", (0,), 1),
        ("brightest", (2,), 2),
    ],
)
def test_the_foreground_is_the_one_asked_for(foreground, classes, quarters):
    found = quantify(scene(), FILE, asked=Asked(foreground=foreground))
    assert found.partition.foreground == classes
    # classes 10 sds apart: no pixel is on the wrong side
    np.testing.assert_array_equal(found.growth.area_px, quarters * 192)


def test_a_rank_that_the_model_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(UsageError, match=r"ranks \[3\] are not allowed with 3 classes; .* to 2"):
        quantify(scene(), FILE, asked=Asked(foreground="3"))


def test_the_default_obeys_too_and_says_what_was_asked_for():
    asked = Asked(classes="3", trend="0", foreground="0")
    found = quantify(scene(), asked=asked)
    assert found.partition.foreground == (0,)
    assert found.variant.mixture.proportions == "local"
    np.testing.assert_allclose(found.growth.area_px, 192, atol=1)  # by class probabilities
    note = next(n for n in found.notes if n.startswith("model: "))
    assert "3 classes, no trend (classes and trend as asked for)" in note
    assert note.endswith('--classes 3 --trend "0"')
