"""Every model file that a run writes can be read back, whatever texts and settings are in it."""

import dataclasses
import pathlib

import pydantic
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from jaxmicro.app.enhance.spec import DictionaryTable, EnhanceVariant, LearningTable
from jaxmicro.app.model_file import Table, load_as, record_of, table_of
from jaxmicro.app.quantify.spec import (
    Correction,
    Foreground,
    LocalOptions,
    Posterior,
    Prior,
    Variant,
)
from jaxmicro.dictionary.coupled import Recipe
from jaxmicro.dictionary.learn import LearningOptions
from jaxmicro.errors import UsageError
from jaxmicro.growth.plan import ForegroundRule
from jaxmicro.posterior import Priors, Sampler
from jaxmicro.settings import choice, setting, settings_of
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.neighbourhood import Neighbourhood

SEEDED = settings(derandomize=True, database=None, deadline=None, max_examples=60)
TEXTS = ('say "no"', "a \\ b", "two\nlines", "µm², Å, 電池", "tab\t, bell\a", "'''", '"""', "#", "")


def _number(low, high):
    return st.floats(low, high, allow_subnormal=False)


def _tables(**keys):
    """A table in which any key may be left out."""
    return st.fixed_dictionaries({}, optional=keys)


FLAG = st.booleans()
PAIR = st.lists(_number(0.01, 10), min_size=2, max_size=2)
MIXTURE = _tables(
    trend=st.sampled_from(["", "x + y", "x + y + x:y", "bs(x, df=5)"]),
    share=st.lists(st.sampled_from(["means", "sds"]), unique=True),
    proportions=st.sampled_from(["global", "local"]),
    family=st.sampled_from(["gaussian", "student-t"]),
)
VARIANTS = st.fixed_dictionaries(
    {"mixture": st.builds(lambda k, m: {"classes": k} | m, st.integers(1, 32), MIXTURE)},
    optional={
        "description": st.text(),
        "fit": _tables(tolerance=_number(1e-12, 0.1), max_steps=st.integers(5, 100_000)),
        "foreground": st.one_of(
            _tables(rule=st.sampled_from(["auto", "grows", "merge"]), overlap=_number(0.01, 0.99)),
            st.fixed_dictionaries(
                {"rule": st.just("ranks"), "ranks": st.lists(st.integers(-3, 3), min_size=1)}
            ),
        ),
        "correction": st.fixed_dictionaries(
            {"radius": st.integers(1, 64), "threshold": _number(0, 1)},
            optional={"metric": st.sampled_from(["l1", "l2"]), "causal": FLAG,
                      "time_scale": _number(0.1, 1000)},
        ),
        "local": _tables(causal=FLAG, width=_number(0.1, 256), memory=_number(0, 10_000),
                         pseudo_count=_number(0.1, 1000), interaction=_number(0.1, 10),
                         levels=st.integers(1, 2), buffer=_number(0, 64)),
        "posterior": _tables(
            method=st.sampled_from(["nuts", "svi", "laplace"]), chains=st.integers(1, 64),
            draws=st.integers(50, 10**9),
            placement=st.sampled_from(["auto", "vectorized"]), subsample=st.integers(1, 10**6),
            priors=_tables(weights=_number(0.1, 10), gap=PAIR, walk_trend=PAIR,
                           reference=st.integers(0, 3)),
        ),
    },
)  # fmt: skip
ENHANCE = _tables(
    description=st.text(),
    dictionary=_tables(
        variant=st.sampled_from(["coupled", "paper"]), patch_size=st.integers(4, 32),
        atoms=st.integers(16, 4096), patches=st.integers(256, 10**7), refine=st.integers(0, 32),
        refinements=st.integers(1, 4), levels=st.integers(1, 8), contrast_scaling=FLAG,
        penalty=_number(1e-9, 1e9), upscale=st.integers(1, 8),
    ),
    learning=_tables(
        passes=_number(0.01, 100), batch=st.integers(1, 65536), rho=_number(0, 50),
        updates=st.sampled_from(["surrogate", "adam"]), learning_rate=_number(1e-9, 1),
        nonnegative=FLAG, ridge=_number(0, 10), tolerance=_number(1e-9, 0.5),
        early_stop=_number(0, 0.5),
    ),
)  # fmt: skip


def _again(folder, variant):
    path = folder / "model.toml"
    path.write_text(variant.to_toml(), encoding="utf-8")
    return load_as(path, type(variant))


def _checked(schema, tables):
    try:
        return schema.model_validate(tables)
    except pydantic.ValidationError:
        reject()  # settings that do not go together, such as [local] with global proportions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("toml")


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_may_be_a_description(folder, text):
    tables = {"description": text, "mixture": {"classes": 2}}
    for variant in (Variant.model_validate(tables), EnhanceVariant(description=text)):
        assert _again(folder, variant) == variant


@SEEDED
@given(tables=VARIANTS)
def test_a_mixture_variant_comes_back_as_it_was(folder, tables):
    variant = _checked(Variant, tables)
    assert _again(folder, variant) == variant


@SEEDED
@given(tables=ENHANCE)
def test_an_enhance_variant_comes_back_with_the_same_recipe(folder, tables):
    variant = _checked(EnhanceVariant, tables)
    try:
        recipe = variant.recipe()
    except UsageError:  # settings that do not go together, such as upscale with the paper's recipe
        reject()
    assert _again(folder, variant).recipe() == recipe


@pytest.mark.parametrize(
    ("record", "table", "not_in_a_file"),
    [
        (LearningOptions, LearningTable, {"n_atoms"}),  # that of the recipe
        (Recipe, DictionaryTable, {"learning"}),  # [learning]
        (Local, LocalOptions, set()),
        (ForegroundRule, Foreground, set()),
        (Neighbourhood, Correction, {"radius"}),  # needed by the vote, found by a soft correction
        (Priors, Prior, {"scaling"}),  # from Python only: priors of another movie's range
        (Sampler, Posterior, {"foreground"}),  # [foreground]
    ],
)
def test_a_table_has_the_keys_and_defaults_of_its_record(record, table, not_in_a_file):
    """All fields of the record but those named are settings, and an empty table is its default."""
    settings = {field.name for field in settings_of(record).values()}
    assert {field.name for field in dataclasses.fields(record)} - settings == not_in_a_file
    assert set(settings_of(record)) <= set(table.model_fields)
    more = {"radius": 3} if record is Neighbourhood else {}
    assert record_of(table.model_construct(), record, **more) == record(**more)


@dataclasses.dataclass(frozen=True)
class _Record:
    plain: int = 1
    width: float | None = setting(None, "pixels, above 0", gt=0)
    n_parts: int = setting(3, "1 or more", key="parts", ge=1)
    kind: str = choice("a", ("a", "b"))
    pair: tuple[float, float] = setting((1.0, 2.0), "[low, high]")
    ranks: tuple[int, ...] = setting((), "ranks")


def test_a_setting_is_declared_in_one_place():
    """Key, type, default, limits and the words of a refusal all come from the record's field."""
    table = table_of(_Record)
    assert set(table.model_fields) == {"width", "parts", "kind", "pair", "ranks"}
    given = table.model_validate({"width": 2.5, "parts": 4, "pair": [0.0, 1.0], "ranks": [2, 3]})
    assert record_of(given, _Record, plain=7) == _Record(7, 2.5, 4, "a", (0.0, 1.0), (2, 3))
    assert record_of(table(), _Record) == _Record()
    assert table.model_fields["width"].description == "pixels, above 0"
    for wrong in ({"width": 0.0}, {"parts": 0}, {"parts": 2.0}, {"kind": "c"}, {"pair": [1.0]},
                  {"ranks": [0.5]}, {"plain": 1}, {"n_parts": 2}):  # fmt: skip
        with pytest.raises(pydantic.ValidationError):
            table.model_validate(wrong)
    assert set(table_of(_Record, only=("kind",)).model_fields) == {"kind"}


def test_every_setting_reaches_the_recipe():
    variant = EnhanceVariant.model_validate(
        {
            "dictionary": {"penalty": 1.9, "upscale": 3, "levels": 2, "patches": 999},
            "learning": {"tolerance": 0.03, "early_stop": 0.002, "rho": 5.0},
        }
    )
    recipe = variant.recipe()
    assert (recipe.penalty, recipe.upscale, recipe.levels, recipe.n_patches) == (1.9, 3, 2, 999)
    learning = recipe.learning
    assert (learning.tolerance, learning.early_stop, learning.rho) == (0.03, 0.002, 5.0)


def test_options_take_precedence_over_the_file():
    variant = EnhanceVariant.model_validate({"dictionary": {"penalty": 1.9, "upscale": 3}})
    assert variant.with_options(penalty=None, upscale=None) == variant
    changed = variant.with_options(penalty=2.5, upscale=1, atoms=64).recipe()
    assert (changed.penalty, changed.upscale, changed.n_atoms) == (2.5, 1, 64)
    assert variant.with_options(penalty="auto").recipe().penalty is None


@pytest.mark.parametrize(("name", "value"), [("atoms", 8), ("patch_size", 3), ("upscale", 9)])
def test_an_option_that_no_file_could_hold_is_refused_by_its_name(name, value):
    says = rf"--{name.replace('_', '-')} {value} is not allowed; use"
    with pytest.raises(UsageError, match=says):
        EnhanceVariant().with_options(**{name: value})


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(tmp_path, number):
    path = tmp_path / "m.toml"
    path.write_text(f"[dictionary]\npenalty = {number}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"line 2: dictionary\.penalty = .* is not allowed"):
        load_as(path, EnhanceVariant)


def _keys(schema):
    for name, field in schema.model_fields.items():
        yield name
        for option in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(option, type) and issubclass(option, Table):
                yield from _keys(option)


def test_every_key_is_in_the_models_readme():
    text = (pathlib.Path(__file__).resolve().parents[2] / "models" / "README.md").read_text("utf-8")
    keys = {*_keys(Variant), *_keys(EnhanceVariant)}
    assert {"time_scale", "early_stop", "walk_trend"} <= keys
    tables = {name for name in keys if f"[{name}]" in text or f".{name}]" in text}
    assert {name for name in keys - tables if f"`{name}`" not in text} == set()
