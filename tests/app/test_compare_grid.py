"""Grids of models without files: what is expanded, and what is refused."""

import pytest

from jaxmicro.app.compare.grid import class_numbers, expanded, refuse_twins, same_fit
from jaxmicro.app.quantify.spec import Variant, load
from jaxmicro.errors import UsageError


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2:6", (2, 3, 4, 5, 6)), ("3", (3,)), ("5,2,2", (2, 5)), (" 2 : 3 ", (2, 3)), ("1:1", (1,))],
)
def test_numbers_of_classes(text, numbers):
    assert class_numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("two", "is not understood; use a range such as 2:6"),
        ("2:", "is not understood"),
        ("2:4:6", "is not understood"),
        ("-1:3", "is not understood"),
        ("6:2", "runs downwards; write 2:6"),
        ("0:3", "use numbers from 1 to 32"),
        ("30:999999999999", "use numbers from 1 to 32"),
    ],
)
def test_numbers_that_are_none(text, says):
    with pytest.raises(UsageError, match=says):
        class_numbers(text)


def test_a_grid_is_every_combination_of_the_base():
    base = Variant.model_validate(
        {"mixture": {"classes": 3, "trend": "y", "share": ["means"]}, "fit": {"max_steps": 77}}
    )
    grid = expanded(base, (2, 3), ("0", "x+y"), ("gaussian", "student-t"))
    assert list(grid) == [
        "k2 0 gaussian", "k3 0 gaussian", "k2 x+y gaussian", "k3 x+y gaussian",
        "k2 0 student-t", "k3 0 student-t", "k2 x+y student-t", "k3 x+y student-t",
    ]  # fmt: skip
    one = grid["k2 x+y student-t"].plan()
    assert (one.model.n_classes, one.model.trend.terms) == (2, ("x", "y"))
    assert (one.model.share, one.max_steps, one.local) == (("means",), 77, None)
    assert [v.mixture.trend for v in expanded(base, (4,)).values()] == ["y"]


def test_without_a_base_it_is_the_model_of_quantify():
    grid = expanded(None, (3,), ("x",))
    plan = grid["k3 x"].plan()
    assert plan.local is not None
    assert plan.model.share == ("means", "sds")
    assert len(expanded(None)) == 12  # 2 to 5 classes, three trends


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"families": ["cauchy"]}, "--family 'cauchy' is not known; use one of gaussian"),
        ({"trends": ["x", "x"]}, "is given twice"),
        ({"trends": ["0", ""]}, "is given twice"),
        ({"trends": ["sin(x)"]}, "sin"),
        ({"classes": (1,), "families": ["poisson-gaussian"]}, "from one class"),
    ],
)
def test_grids_that_cannot_be(given, says):
    with pytest.raises(UsageError, match=says):
        expanded(None, **({"classes": (2,)} | given))


def test_two_names_for_one_model():
    with pytest.raises(UsageError, match="'k2 x \\+ y' and 'k2 y \\+ x' are two names for one"):
        refuse_twins(expanded(None, (2,), ("x + y", "y + x")))
    soft = {name: load(name) for name in ("shared_k4", "shared_k4_soft")}
    refuse_twins(soft)
    assert same_fit(soft) == [("shared_k4", "shared_k4_soft")]
