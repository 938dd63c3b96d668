"""Model files: what is wrong is named, with its line and what is allowed."""

import pathlib

import pytest

from jaxmicro.app.cli import listed
from jaxmicro.app.quantify.spec import Variant, load
from jaxmicro.errors import UsageError
from jaxmicro.mixture.family import Gaussian, PoissonGaussian, StudentT

GOOD = """description = "a model"

[mixture]
classes = 4
trend = "x + y"
share = ["means", "sds"]

[foreground]
rule = "ranks"
ranks = [2, 3]

[correction]
radius = 5
threshold = 0.05
"""


def _load(tmp_path, text):
    path = tmp_path / "m.toml"
    path.write_text(text)
    return load(path)


def test_a_variant_survives_a_round_trip(tmp_path):
    first = _load(tmp_path, GOOD)
    assert first.mixture.model().share == ("means", "sds")
    assert first.correction.causal
    assert _load(tmp_path, first.to_toml()) == first


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("classes = 4", "clases = 4"), r"line 4: mixture.clases is not a known key; allowed are"),
        (("classes = 4", 'classes = "4"'), r"line 4: mixture.classes = '4' .*whole number"),
        (("classes = 4", "classes = 0"), r"mixture.classes = 0 is not allowed; use a whole number"),
        (("classes = 4\n", ""), r"line 3: mixture.classes is missing; give a whole number"),
        (('"x + y"', '"exp(x)"'), r"line 3: mixture: trend 'exp\(x\)': cannot read"),
        (('"sds"', '"weights"'), r"share = 'weights' is not allowed; use any of"),
        (('"ranks"', '"biggest"'), r"foreground.rule = 'biggest' is not allowed; use one of"),
        (("ranks = [2, 3]", "ranks = []"), r"go together"),
        (("radius = 5", "radius = 0"), r"line 13: correction.radius = 0 .*1 to 64"),
        (("threshold = 0.05", "threshold = 2.0"), r"correction.threshold = 2.0 .*between 0 and 1"),
        (("[mixture]", "[mixtures]"), r"mixture is missing|mixtures is not a known key"),
        (("classes = 4", "classes = "), r"not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, says):
    assert change[0] in GOOD
    with pytest.raises(UsageError, match=says):
        _load(tmp_path, GOOD.replace(*change))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        load(tmp_path / "none.toml")


def test_every_quantify_model_of_the_project_loads():
    folder = pathlib.Path(__file__).resolve().parents[2] / "models"
    loaded = [load(p) for p in folder.glob("*.toml") if "[mixture]" in p.read_text()]
    assert len(loaded) >= 5
    assert all(isinstance(v, Variant) and v.description for v in loaded)


def test_options_that_take_several_files_take_a_glob_of_the_shell():
    given = ["enhance", "--train", "a.tif", "b.tif", "--out", "o", "--apply", "c.tif", "--force"]
    assert listed(given) == [
        "enhance", "--train", "a.tif", "--train", "b.tif", "--out", "o", "--apply", "c.tif",
        "--force",
    ]  # fmt: skip
    assert listed(["compare", "m.tif", "a.toml", "b.toml"]) == [
        "compare",
        "m.tif",
        "a.toml",
        "b.toml",
    ]


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        ('family = "gaussian"', Gaussian()),
        ('family = "student-t"', StudentT()),
        ('family = "student-t"\ndof = 4', StudentT(4.0)),
        ('family = "poisson-gaussian"', PoissonGaussian()),
        (
            'family = "poisson-gaussian"\nread_noise = 2.0\ngrey_per_quantum = 0.5\noffset = 10.0',
            PoissonGaussian(2.0, 0.5, 10.0),
        ),
    ],
)
def test_every_family_can_be_said_in_a_file(tmp_path, keys, family):
    first = _load(tmp_path, GOOD.replace("classes = 4", f"classes = 4\n{keys}"))
    assert first.mixture.model().family == family
    assert _load(tmp_path, first.to_toml()) == first


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            'family = "cauchy"',
            "mixture.family = 'cauchy' is not allowed; use one of gaussian, stud",
        ),
        ("dof = 4.0", "dof = 4 has no effect with family = 'gaussian'; leave it out or use"),
        ('family = "student-t"\ndof = 0.5', "mixture.dof = 0.5 is not allowed; use degrees of"),
        (
            'family = "student-t"\noffset = 3.0',
            "offset = 3 has no effect with family = 'student-t'",
        ),
        (
            'family = "poisson-gaussian"\ngrey_per_quantum = 0.0',
            "mixture.grey_per_quantum = 0.0 is not allowed; use grey levels per detected quantum",
        ),
        ('family = "poisson-gaussian"\nread_noise = -2.0', "mixture.read_noise = -2.0 is not"),
        ('family = "poisson-gaussian"\ngain = true', "gain = true is not supported by family"),
        (
            'family = "student-t"\n[posterior]\ncensoring = "saturated"',
            "censoring = 'saturated' is not supported by the posterior with family",
        ),
    ],
)
def test_impossible_families_are_named(tmp_path, keys, says):
    good = GOOD.replace("[mixture]\nclasses = 4\ntrend", f"[mixture]\nclasses = 4\n{keys}\ntrend")
    if "[posterior]" in keys:
        family, table = keys.split("\n", 1)
        good = GOOD.replace("classes = 4", f"classes = 4\n{family}") + table
    with pytest.raises(UsageError, match=says):
        _load(tmp_path, good)


def test_a_model_of_the_other_job_is_named_as_such():
    path = pathlib.Path(__file__).resolve().parents[2] / "models" / "enhance_paper.toml"
    with pytest.raises(UsageError, match=r"enhance_paper.toml: this is a model for `jaxmicro enh"):
        load(path)
