"""What every fit has in common: how it is scaled, how it is judged, and the record it leaves.

A fit works on standardised grey values (mean 0, sd 1 over all frames that are fitted together), so
that float32 and the stopping rules see the same numbers whatever the detector's units.
"""

from __future__ import annotations

import enum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.mixture.batch import Item
from jaxmicro.mixture.family import GAUSSIAN, Family
from jaxmicro.mixture.gmrm import GMRM, Params

MIN_PIXELS_PER_PARAMETER = 2
LEAST_SD = 1e-3  # of the sd of all pixels, for continuous data that have no grey step
LEAST_HELD = 5  # pixels that a class must hold


class Result(enum.IntEnum):
    """How a fit ended; `sentence` says what to do about it."""

    converged = 0
    max_steps = 1
    empty_class = 2
    degenerate_class = 3
    nonfinite = 4
    too_few_pixels = 5

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Result.converged: "The fit reached the optimum to within the tolerance.",
    Result.max_steps: "The likelihood is too flat to find its top (classes that coincide); "
    "use fewer classes, share the class means and sds over the movie, or raise max_steps.",
    Result.empty_class: "A class holds fewer than 5 pixels; use fewer classes or share the class "
    "means and sds over the movie.",
    Result.degenerate_class: "A class is as narrow as the grey-level step (a spike such as a "
    "saturated level); use fewer classes or exclude those pixels.",
    Result.nonfinite: "The pixels or the fit held NaN or infinity; exclude those pixels.",
    Result.too_few_pixels: "Too few pixels were visited for this many parameters; raise the rate, "
    "use fewer classes or trend terms, or share more over the movie.",
}


class Fit(eqx.Module):
    """A fitted model.

    Attributes:
      params: parameters with the batch axes of the pixels: (frames,) or (frames, replicates).
      log_likelihood: nats, summed over the visited pixels of each frame.
      trace: mean log-likelihood in nats per pixel after each accepted step of the item, NaN after
        the last; never falls.
      steps: passes over the pixels.
      result: a `Result` per frame (frames that share parameters share it).
      optimum_gap: upper bound on the distance to the optimum of the likelihood, nats per pixel;
        infinite where none is known.
      spike: classes whose sd is that of rounding: spikes, whose pixels may belong elsewhere.
    """

    params: Params
    log_likelihood: Float[Array, "*batch"]
    trace: Float[Array, "*batch steps"]
    steps: Int[Array, "*batch"]
    result: Int[Array, "*batch"]
    optimum_gap: Float[Array, "*batch"]
    spike: Bool[Array, "*batch K"]

    def __getitem__(self, index) -> Fit:
        return jax.tree.map(lambda a: a[index], self)

    @property
    def results(self) -> dict[str, int]:
        """How many batch items ended how."""
        codes, counts = np.unique(np.asarray(self.result), return_counts=True)
        return {Result(int(c)).name: int(n) for c, n in zip(codes, counts, strict=True)}

    @property
    def optimum_text(self) -> str:
        """How near the optimum the fits ended, in words."""
        gap = np.asarray(self.optimum_gap).ravel()
        known = gap[np.isfinite(gap)]
        if not known.size:
            return "distance to the optimum not known"
        text = f"optimum within {known.max():.1g} nats per pixel"
        if known.size == gap.size:
            return text
        return f"{text} in {known.size} of {gap.size} frames, not known in the others"

    def __repr__(self) -> str:
        k = self.params.means.shape[-1]
        batch = self.log_likelihood.shape

        def middle(a: Array) -> str:
            rows = np.asarray(a).reshape(int(np.prod(batch)), a.shape[-1])
            return "[" + ", ".join(f"{v:.4g}" for v in np.nanmedian(rows, axis=0)) + "]"

        p = self.params
        ended = ", ".join(f"{n} {name}" for name, n in self.results.items())
        return (
            f"Fit of {k} classes to {' x '.join(map(str, batch)) or 1} frame(s): {ended}\n"
            f"  weights {middle(p.weights)}\n  means   {middle(p.means)}\n"
            f"  sds     {middle(p.sds)}\n  trend   {middle(p.trend)}   (medians over frames)\n"
            f"  log-likelihood {float(np.sum(np.asarray(self.log_likelihood))):.1f} nats, "
            f"at most {int(np.max(np.asarray(self.steps)))} steps, {self.optimum_text}"
        )


def by_mean(params: Params) -> Int[Array, " K"]:
    """The order of classes by increasing mean, averaged over frames."""
    return jnp.argsort(jnp.mean(params.means, axis=0))


class Scale(eqx.Module):
    """Grey values of a fit are `centre + scale * z`; `floor` is the least class sd in z.

    `bad` marks frames with a visited pixel that is not finite.
    """

    centre: Float[Array, ""]
    scale: Float[Array, ""]
    floor: Float[Array, ""]
    bad: Bool[Array, " T"]

    def standardised(self, params: Params, family: Family = GAUSSIAN) -> Params:
        """Parameters in grey values as the fit sees them; sds not below the floor."""
        law = None if params.law is None else family.scaled(params.law, self.centre, self.scale)
        return self.begin(
            Params(
                params.weights,
                (params.means - self.centre) / self.scale,
                jnp.maximum(params.sds / self.scale, self.floor),
                params.trend / self.scale,
                params.gain,
                law,
            ),
            family,
        )

    def begin(self, params: Params, family: Family) -> Params:
        """Standardised parameters with the law of the family, and sds that obey it."""
        sds, law = family.begin(
            params.weights, params.means, params.sds, params.law, self.centre, self.scale
        )
        sds = jnp.maximum(sds, self.floor)
        return Params(params.weights, params.means, sds, params.trend, params.gain, law)

    def rounding(self, params: Params) -> Float[Array, ""]:
        """Log-likelihood per pixel that class means may lose when rounded to grey values."""
        eps = jnp.finfo(params.means.dtype).eps
        grey = jnp.abs(self.centre) + self.scale * jnp.abs(params.means)
        relative = eps * grey / (self.scale * params.sds)
        # the mean of a class that is not in use lies out of the reach of any pixel
        return 0.5 * jnp.max(jnp.where(params.weights > 0, relative, 0)) ** 2

    def spike(self, params: Params) -> Bool[Array, "T K"]:
        """Which classes of standardised parameters have the least sd that is allowed."""
        return params.sds <= self.floor * 1.0001

    def restored(
        self, params: Params, finite: Bool[Array, " T"], family: Family = GAUSSIAN
    ) -> Params:
        """Parameters in grey values, classes by increasing mean, NaN where not `finite`."""
        order = by_mean(params)
        nan = jnp.where(finite, 1.0, jnp.nan).astype(params.means.dtype)[:, None]
        law = params.law
        if law is not None:
            law = family.restored(law, self.centre, self.scale) * nan
        return Params(
            params.weights[:, order] * nan,
            (params.means[:, order] * self.scale + self.centre) * nan,
            params.sds[:, order] * self.scale * nan,
            params.trend * self.scale * nan,
            params.gain[:, order] * nan,
            law,
        )


def standardise(item: Item, sd_floor: Float[Array, ""]) -> tuple[Item, Scale]:
    """The same pixels with mean 0 and sd 1; what is not finite or has no weight becomes 0."""
    weight = jnp.broadcast_to(item.weight, item.values.shape)
    used = weight > 0
    finite = jnp.isfinite(item.values)
    z = jnp.where(used & finite, item.values, 0)
    count = jnp.maximum(jnp.sum(weight), 1)
    centre = jnp.sum(weight * z) / count
    sd = jnp.sqrt(jnp.sum(weight * (z - centre) ** 2) / count)
    scale = jnp.where(sd > 0, sd, jnp.maximum(sd_floor, 1))
    floor = jnp.maximum(sd_floor / scale, LEAST_SD)
    bad = jnp.any(used & ~finite, axis=-1)
    z = jnp.where(used, (z - centre) / scale, 0)
    return Item(z, item.design, item.weight), Scale(centre, scale, floor, bad)


def judge(
    model: GMRM,
    item: Item,
    scale: Scale,
    params: Params,
    class_counts: Float[Array, " K"],
    log_likelihood: Float[Array, " T"],
    converged: Bool[Array, ""],
    present: Int[Array, ""] | int,
) -> tuple[Int[Array, " T"], Bool[Array, " T"]]:
    """The `Result` of each frame, and which frames have numbers at all.

    `params` are standardised, `class_counts` the pixels of each class over all frames. Of the
    classes only the first `present` are asked for.
    """
    asked = jnp.arange(model.n_classes) < present
    n_frames = log_likelihood.shape[0]
    finite = jnp.isfinite(log_likelihood) & ~scale.bad
    if model.share:
        finite = jnp.broadcast_to(jnp.all(finite), finite.shape)
    result = jnp.where(converged, Result.converged, Result.max_steps)
    result = jnp.where(jnp.any(scale.spike(params) & asked[None]), Result.degenerate_class, result)
    result = jnp.where(jnp.any((class_counts < LEAST_HELD) & asked), Result.empty_class, result)
    result = jnp.where(finite, result, Result.nonfinite)
    # Too few pixels are the cause of whatever else went wrong, unless the pixels were bad.
    need = MIN_PIXELS_PER_PARAMETER * model.n_parameters(n_frames, present)
    count = jnp.sum(jnp.broadcast_to(item.weight, item.values.shape), axis=-1)
    few = ((jnp.sum(count) < need) | (count == 0)) & ~jnp.any(scale.bad)
    result = jnp.where(few, Result.too_few_pixels, result).astype(jnp.int32)
    return result, finite & (count > 0)


def record(
    item: Item,
    scale: Scale,
    params: Params,
    log_likelihood: Float[Array, " T"],
    judged: tuple[Int[Array, " T"], Bool[Array, " T"]],
    family: Family,
    run: tuple[Float[Array, " steps"], Int[Array, ""], Float[Array, ""]],
) -> Fit:
    """The fit of standardised frames in grey values; `run` is trace, steps and gap."""
    n_frames = log_likelihood.shape[0]
    result, finite = judged
    trace, steps, gap = run
    count = jnp.sum(jnp.broadcast_to(item.weight, item.values.shape), axis=-1)
    in_grey = log_likelihood - count * jnp.log(scale.scale)

    def every(a: Array) -> Array:
        return jnp.broadcast_to(a, (n_frames, *a.shape))

    return Fit(
        scale.restored(params, finite, family),
        jnp.where(finite, in_grey, jnp.nan),
        every(trace - jnp.log(scale.scale)),
        every(steps),
        result,
        every(gap),
        scale.spike(params)[:, by_mean(params)],
    )
