"""A user's script, read by the type checker only (`make types`): the public names carry types.

Each line marked with an ignored error is a mistake that the checker must find; a mark that is not
needed is an error itself.
"""

from typing import assert_type

import jax

import jaxmicro as jm

movie = jm.read_movie("movie.tif")
assert_type(movie, jm.Movie)
assert_type(movie.pixel_area_um2, float | None)
assert_type(movie.crop((0, 10, 0, 10)), jm.Movie)

pixels = jm.sample(jax.random.key(0), movie, rate=0.1)
assert_type(pixels, jm.Pixels)
model = jm.GMRM(4, jm.Trend("x + y"), share=("means", "sds"))
fit = jm.fit(model, pixels)
assert_type(fit, jm.Fit)
assert_type(fit.params, jm.Params)
assert_type(fit.optimum_text, str)
local = jm.fit_local(model, pixels, jm.Local(causal=True))
assert_type(local.fit, jm.Fit)
parts = jm.partition(fit.params, "brightest")
assert_type(parts.foreground, tuple[int, ...])
growth = jm.estimate(parts.is_foreground(local.classify()), pixels)
assert_type(growth, jm.Growth)
found = jm.analyse(pixels, jm.Plan(model, foreground=jm.ForegroundRule("brightest")))
assert_type(found, jm.Analysis)
assert_type(found.growth.calibrated(pixel_area_um2=movie.pixel_area_um2), jm.Growth)
drawn = jm.posterior.posterior(jax.random.key(1), model, pixels, fit, sampler=jm.Sampler(draws=500))
assert_type(drawn, jm.Posterior)

slice_ = jm.read_image("txm.tif")
dictionary, learned, notes = jm.build_dictionary([slice_], slice_, jm.Recipe(patch_size=8), seed=0)
assert_type(notes, tuple[str, ...])
assert_type(jm.enhance(slice_, dictionary, seed=0).notes, tuple[str, ...])

jm.fit(model, movie)  # type: ignore[arg-type]
jm.GMRM(2, "x + y")  # type: ignore[arg-type]
jm.sample("0", movie)  # type: ignore[arg-type]
print(fit.paramz)  # type: ignore[attr-defined]
print(jm.fitt)  # type: ignore[attr-defined]
