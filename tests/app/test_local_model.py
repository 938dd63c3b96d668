"""Local proportions from the model file to the files of a run."""

import numpy as np
import pytest
import tifffile

from jaxmicro.app.compare.run import compare
from jaxmicro.app.quantify.maps import write_labels
from jaxmicro.app.quantify.run import quantify
from jaxmicro.app.quantify.spec import Variant, load
from jaxmicro.data.phantom import operando
from jaxmicro.errors import UsageError
from jaxmicro.growth.plan import Sampling

TEXT = """
[mixture]
classes = 4
trend = "x + y + x:y"
share = ["means", "sds"]
proportions = "local"
[local]
width = 2
interaction = 1.5
[foreground]
rule = "brightest"
"""


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "local.toml"
    path.write_text(TEXT, encoding="utf-8")
    return load(path)


@pytest.fixture(scope="module")
def run(variant):
    return quantify(operando(4, shape=(4, 64, 64)).movie, variant, Sampling(0.3))


def test_keys_reach_the_fit_and_the_model_file_comes_back(variant, run, tmp_path):
    assert run.analysis.fitted.local.kernel.width == 2.0
    assert float(run.analysis.fitted.local.interaction) == 1.5
    assert any("local proportions: kernel of sd 2 pixels" in note for note in run.notes)
    again = tmp_path / "model.toml"
    again.write_text(variant.to_toml(), encoding="utf-8")
    assert load(again) == variant


def test_areas_come_from_the_visited_pixels_alone(run):
    visited = run.analysis.foreground.sum(axis=1) / run.analysis.foreground.shape[1] * 64 * 64
    np.testing.assert_allclose(run.growth.area_px, visited, rtol=1e-6)


def test_dense_labels_hold_an_estimate_and_its_entropy(run, tmp_path):
    path = tmp_path / "labels.tif"
    write_labels(path, run, dense=True)
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TCYX"
        assert "estimated where not visited" in file.imagej_metadata["Info"]
        labels, classes, entropy = np.moveaxis(file.asarray(), 1, 0)
    assert set(np.unique(classes)) <= set(range(1, run.model.n_classes + 1))
    assert set(np.unique(labels)) <= {127, 255}
    rows, cols = np.asarray(run.pixels.rows), np.asarray(run.pixels.cols)
    at = np.arange(4)[:, None], rows, cols
    # a visited pixel shows its own class, unless its foreground is a near tie
    same = (labels[at] == 255) == run.analysis.foreground
    assert same.mean() > 0.999
    seen = np.zeros(labels.shape, bool)
    seen[at] = True
    assert entropy[seen].mean() < entropy[~seen].mean()


@pytest.fixture(scope="module")
def at(variant):
    """Growth and steps of the same movie with `[fit]` as given, by quantify and by compare."""
    movie = operando(4, shape=(4, 64, 64)).movie

    def call(**options):
        changed = Variant.model_validate(variant.model_dump() | {"fit": options})
        found = quantify(movie, changed, Sampling(0.3))
        table = compare(movie, {"local": changed}, Sampling(0.3)).overall
        steps = int(np.max(found.fit.steps))
        assert table["steps"][0] == steps
        assert table["log_likelihood"][0] == pytest.approx(
            float(np.sum(found.fit.log_likelihood)),
            rel=1e-6,  # float32 sums of 4 frames
        )
        return found, steps

    return call


def test_tolerance_left_out_is_1e_5_for_local_proportions(at):
    left_out, usual = at()[0], at(tolerance=1e-5)[0]
    np.testing.assert_array_equal(left_out.growth.area_px, usual.growth.area_px)
    np.testing.assert_array_equal(left_out.fit.params.means, usual.fit.params.means)


def test_a_given_tolerance_decides_where_a_local_fit_stops(at):
    (loose, few), (_, some), (tight, many) = at(tolerance=1e-2), at(), at(tolerance=1e-7)
    assert few < some < many
    assert np.all(np.asarray(tight.fit.optimum_gap) <= 1e-7)
    assert np.all(np.asarray(loose.fit.optimum_gap) > 1e-5)


def test_tolerance_left_out_is_1e_6_for_global_proportions():
    usual = {"tolerance": 1e-6, "max_steps": 500}
    assert Variant.model_validate({"mixture": {"classes": 2}}).plan().stopping == usual


def test_local_table_needs_local_proportions():
    with pytest.raises(ValueError, match="needs proportions = 'local'"):
        Variant.model_validate({"mixture": {"classes": 2}, "local": {"causal": True}})


def test_unknown_key_in_local_is_refused_by_name(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(TEXT.replace("width", "widht"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"local\.widht is not a known key"):
        load(path)
