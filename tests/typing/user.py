"""A user's script, read by the type checker only (`make types`): the public names carry types.

Each line marked with an ignored error is a mistake that the checker must find; a mark that is not
needed is an error itself.
"""

import dataclasses
import pathlib
from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

import jaxmicro as jm

jm.use_compilation_cache()
movie = jm.read_movie("movie.tif")
assert_type(movie, jm.Movie)
assert_type(movie.pixel_area_um2, float | None)
assert_type(movie.crop((0, 10, 0, 10)), jm.Movie)
made = jm.Movie(np.zeros((3, 40, 50)), pixel_size_nm=28.2, frame_interval_s=0.6)
assert_type(made[1:, 2:30, 4:], jm.Movie)
assert_type(made[::2], jm.Movie)
assert_type(made[-1], np.ndarray)
assert_type(len(made), int)
assert_type(dataclasses.replace(made, name="zn"), jm.Movie)

found = jm.quantify(movie, "shared_k4", rate=0.1, classes=[2, 3], foreground=-1, thickness_um=0.5)
assert_type(found, jm.Quantified)
assert_type(found.growth, jm.Growth)
assert_type(found.notes, tuple[str, ...])
assert_type(found.to_xarray(), xr.Dataset)
assert_type(found.write("out"), pathlib.Path)
variant = jm.load_model("shared_k4")
assert_type(variant, jm.Variant)
assert_type(variant.plan(), jm.Plan)
table: pd.DataFrame = jm.compare(np.zeros((3, 40, 50)), {"one": variant, "two": jm.GMRM(2)})
assert_type(jm.draw_posterior(movie, variant).posterior, jm.Posterior)

pixels = jm.sample(jax.random.key(0), movie, rate=0.1)
assert_type(pixels, jm.Pixels)
trend = jm.Trend("x + flat + bowl", own={"flat": np.eye(40), "bowl": lambda x, y: x**2 + y**2})
model = jm.GMRM(4, "x + y", share=("means", "sds"))
assert_type(model.trend, jm.Trend)
fit = jm.fit(jm.GMRM(4, trend, family=jm.StudentT()), pixels)
assert_type(fit, jm.Fit)
assert_type(fit.params, jm.Params)
assert_type(fit.optimum_text, str)
local = jm.fit_local(model, pixels, jm.Local(causal=True))
assert_type(local.fit, jm.Fit)
parts = jm.partition(fit.params, "brightest")
assert_type(parts.foreground, tuple[int, ...])
growth = jm.estimate(parts.is_foreground(local.classify()), pixels)
assert_type(growth, jm.Growth)
plan = jm.Plan(model, foreground=jm.ForegroundRule("brightest"), sampling=jm.Sampling(0.1))
analysis = jm.analyse(movie, plan)
assert_type(analysis, jm.Analysis)
assert_type(jm.analyse(pixels, plan, movie=movie).growth, jm.Growth)
drawn = jm.posterior.posterior(jax.random.key(1), model, pixels, fit, sampler=jm.Sampler(draws=500))
assert_type(drawn, jm.Posterior)


def loss(p: jm.Pixels) -> jax.Array:
    return jnp.sum(jm.fit(model, p).params.means)


slice_ = jm.read_image("txm.tif")
dictionary, learned, notes = jm.build_dictionary([slice_], slice_, jm.Recipe(patch_size=8), seed=0)
assert_type(notes, tuple[str, ...])
assert_type(jm.enhance(slice_, dictionary, seed=0).notes, tuple[str, ...])

jm.fit(model, movie)  # type: ignore[arg-type]
jm.GMRM(2, share="means")  # type: ignore[arg-type]
jm.GMRM(2, 3)  # type: ignore[arg-type]
jm.sample("0", movie)  # type: ignore[arg-type]
jm.Movie(np.zeros((3, 40, 50)), pixel_size_nm="28.2 nm")  # type: ignore[arg-type]
jm.Plan("shared_k4")  # type: ignore[arg-type]
jm.quantify(movie, rate="10 %")  # type: ignore[arg-type]
jm.quantify(movie, ratio=0.1)  # type: ignore[call-arg]
print(fit.paramz)  # type: ignore[attr-defined]
print(jm.fitt)  # type: ignore[attr-defined]
