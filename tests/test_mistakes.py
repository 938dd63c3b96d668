"""A wrong argument is named in one line that says what to give.

In a process of its own, as a user's: the tests' own check of types would speak first.
"""

import json
import subprocess
import sys

import pytest

PREPARE = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
import jaxmicro as jm
grey = np.random.default_rng(0).normal(100, 10, (2, 12, 10)).astype(np.float32)
grey[:, :6] += 60
movie = jm.Movie(grey, pixel_size_nm=10.0)
pixels = jm.sample(0, movie)
model = jm.GMRM(2)
labels = (pixels.values > 130)
params = jm.Params(*(jnp.ones((2, k)) for k in (2, 2, 2, 0, 2)))
fit = jm.Fit(params, *([jnp.zeros(2)] * 6))
plan = jm.Plan(model)
"""
MISTAKES = {
    "jm.fit(model, movie)": "fit: pixels is of type Movie, but a Pixels is needed; call sample",
    "jm.fit(pixels, model)": "fit: model is of type Pixels, but a GMRM is needed; the model comes",
    "jm.fit(model, movie.images)": "make a Movie of the array",
    "jm.fit(plan, pixels)": "give plan.model",
    "jm.fit(model, pixels, init=fit)": "fit: init is of type Fit, but a Params is needed",
    "jm.fit(jm.GMRM(3), pixels, init=params)": "init has 2 classes and 0 trend terms, the model 3",
    "jm.fit(model, pixels, tolerance=0)": "tolerance = 0 is not allowed; use nats per pixel",
    "jm.fit(model, pixels, max_steps=0)": "max_steps = 0 is not allowed; use 1 or more",
    "jm.fit(model, pixels, classes=3)": "classes = 3 is not allowed; use 1 to 2",
    "jm.fit_local(model, movie)": "fit_local: pixels is of type Movie",
    "jm.GMRM('3')": "classes = '3' is not allowed; use 1 to 32",
    "jm.GMRM(2.5)": "classes = 2.5 is not allowed",
    "jm.GMRM(2, 3)": "GMRM: trend is 3, but a Trend or str is needed; give a formula",
    "jm.GMRM(2, share='means')": "share = 'means' is one text; use a tuple: share=('means',)",
    "jm.GMRM(2, share=('mean',))": "share = 'mean' is not known",
    "jm.GMRM(2, family='student-t')": "GMRM: family is 'student-t', but a Family is needed; give",
    "jm.Trend(5)": "trend 5 is not a formula; give a text",
    "jm.Movie('movie.tif')": "images = 'movie.tif' are no numbers; give read_movie(path)",
    "jm.Movie(movie)": "Movie(movie) would lose what is known of it",
    "jm.read_movie(grey)": "read_movie takes a path; an array in memory is Movie(array)",
    "jm.vote(labels, movie, jm.Neighbourhood(2), .2)": "vote: pixels is of type Movie",
    "jm.vote(labels, pixels, 2, .2)": "vote: neighbourhood is 2, but a Neighbourhood is needed",
    "model.classify(fit, pixels)": "classify: params is of type Fit, but a Params is needed",
    "model.responsibilities(params, movie)": "responsibilities: pixels is of type Movie",
    "jm.fit(model, pixels, quantum=-1)": "quantum = -1 is not allowed",
    "jm.analyse(movie, plan, thickness_um='0.5 um')": "thickness_um = '0.5 um' is not allowed",
    "jm.load_model(3)": "load_model: model is 3, but a str or Path is needed",
    "jm.compare(movie, 3)": "compare: models is 3, but a list or dict is needed",
    "jm.sample(movie, 0)": "the seed comes first; use sample(0, movie, rate=0.1)",
    "jm.sample(0.5, movie)": "key = 0.5 is not allowed; give a whole number as a seed",
    "jm.sample('0', movie)": "key = '0' is not allowed",
    "jm.sample(0, movie.images)": "sample: movie is of type ndarray, but a Movie is needed; give",
    "jm.sample(0, 'movie.tif')": "sample: movie is 'movie.tif', but a Movie is needed; give read_m",
    "jm.sample(0, movie, rate=10)": "rate 10 is not allowed; it is the share of pixels visited",
    "jm.sample(0, movie, rate=50)": "for 50 % give 0.5",
    "jm.sample(0, movie, rate='10 %')": "rate '10 %' is not a number; it is the share",
    "jm.sample(0, movie, rate=True)": "rate True is not a number",
    "jm.sample(0, movie, rate=.9, replicates=1.5)": "replicates = 1.5 is not allowed",
    "jm.partition(fit)": "partition: params is of type Fit, but a Params is needed; give fit",
    "jm.partition(params, 'brightst')": "foreground rule 'brightst' is not known; use one of auto",
    "jm.ForegroundRule('brightst')": "foreground rule 'brightst' is not known; use one of auto",
    "jm.ForegroundRule(ranks=(0,))": 'do not go together; use ForegroundRule("ranks", (0,))',
    "jm.estimate(jnp.zeros((2, 120), int), pixels)": "estimate: foreground holds int",
    "jm.estimate(labels[0], pixels)": "foreground has shape (120,), but the pixels have (2, 120)",
    "jm.estimate(labels, movie)": "estimate: pixels is of type Movie",
    "jm.analyse(plan, pixels)": "the pixels come first: analyse(pixels, plan)",
    "jm.analyse(pixels, model)": "analyse: plan is of type GMRM, but a Plan is needed; give P",
    "jm.Plan('shared_k4')": "Plan: model is 'shared_k4', but a GMRM is needed; give load_model(",
    "jm.Plan(model, foreground='brightest')": 'give ForegroundRule("brightest")',
    "jm.Plan(model, local=True)": "Plan: local is True, but a Local is needed; give Local()",
    "jm.criteria(model, fit, pixels)": "criteria: params is of type Fit, but a Params is needed",
    "jm.posterior.posterior(0.5, model, pixels)": "key = 0.5 is not allowed",
    "jm.posterior.posterior(0, model, movie)": "posterior: pixels is of type Movie",
    "jax.jit(lambda p: jm.fit_local(model, p).fit)(pixels)": "fit_local cannot run inside jax.jit",
    "jax.jit(lambda p: jm.fit(model, p, progress=print))(pixels)": "fit with progress cannot",
    "jax.jit(lambda p: jm.partition(jm.fit(model, p).params))(pixels)": "partition cannot",
    "jax.jit(lambda p: jm.analyse(p, plan))(pixels)": "analyse cannot run inside jax.jit",
    "jax.jit(lambda k: jm.sample(k, movie, .9))(jax.random.key(0))": "sample cannot run inside",
    "jax.jit(lambda a: jm.Movie(a))(grey)": "a Movie is ordinary NumPy and cannot be made inside",
    "jax.jit(lambda n: jm.fit(model, pixels, max_steps=n))(5)": "max_steps cannot run inside",
}


@pytest.fixture(scope="module")
def said():
    """What each mistake is answered with, by a user's process."""
    code = PREPARE + (
        "said = {}\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        eval(line)\n"
        "        said[line] = ['', 'nothing was wrong']\n"
        "    except Exception as err:\n"
        "        said[line] = [type(err).__name__, str(err)]\n"
        "print(json.dumps(said))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(list(MISTAKES))],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_named_and_told_what_to_do(said, line):
    kind, text = said[line]
    assert kind in ("UsageError", "DataError"), text
    assert MISTAKES[line] in text
    assert "\n" not in text
