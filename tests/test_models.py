"""Every model file of the project fits the small phantom and says how each frame ended."""

import pathlib

import jax
import numpy as np
import pytest

from jaxmicro.app.quantify.run import quantify
from jaxmicro.app.quantify.spec import load
from jaxmicro.data.phantom import operando
from jaxmicro.growth.analyse import result_names
from jaxmicro.growth.plan import Sampling

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "models"
FILES = [p for p in sorted(FOLDER.glob("*.toml")) if "[mixture]" in p.read_text("utf-8")]


@pytest.fixture(scope="module")
def movie():
    return operando(1, shape=(5, 64, 64)).movie


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_model_fits_and_its_likelihood_never_falls(path, movie):
    run = quantify(movie, load(path), Sampling(0.5, seed=1))
    known = [
        r for r in result_names(run.fit) if r in ("converged", "empty_class", "degenerate_class")
    ]
    assert len(known) == 5
    trace = np.asarray(run.fit.trace)
    if (
        run.analysis.fitted.local is not None
    ):  # a pseudo-likelihood, whose proportions move, need not rise
        trace = trace[:, -1:]
    steps = np.diff(trace, axis=-1)
    # float32 sums of 2048 log densities are good to a few 1e-7 of their size
    assert not steps.size or np.nanmin(steps) >= -4 * np.finfo(trace.dtype).eps * np.nanmax(
        np.abs(trace)
    )
    assert np.all(np.isfinite(run.growth.area_px))
    assert jax.tree.all(jax.tree.map(lambda a: bool(np.all(np.isfinite(a))), run.fit.params))
