"""The statistical model of one batch item: its priors, and the record of model and pixels.

A batch item is one frame where frames are independent (nothing shared), or the whole movie where
class means and sds are shared by its frames. The priors are on standardised grey values,
(z - centre) / scale, in which the range of 99 % of the item's visited pixels is -2 to 2 (see
`scaling`). That range is where the K classes can be; mean and sd of the grey values would depend
on how common each class is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int

from jaxmicro.errors import UsageError
from jaxmicro.mixture.batch import Item
from jaxmicro.posterior.likelihood import ClassNoise
from jaxmicro.settings import setting

LOCATED, LOG = "[location, scale]", "[median, sd of the log]"  # the two kinds of pairs


@dataclasses.dataclass(frozen=True)
class Priors:
    """Weakly informative priors on standardised grey values: 1 is a quarter of their 99 % range.

    Pairs are (location, scale) of a normal distribution, or (median, sd of the log) of a
    log-normal one.

    Attributes:
      weights: concentration of the Dirichlet prior of the class weights (single frames).
      lowest_mean: normal prior of the darkest class mean; None is (2 / K - 2, 0.5).
      gap: log-normal prior of the distance between neighbouring class means; None is
        (4 / K, 0.5). Its density vanishes at 0, so that classes keep their order.
      sd: log-normal prior of the sd that classes have in common, or of those at the two ends of a
        detector's line; None is (1 / K, 0.5).
      sd_ratio: sd of the log of the ratio of a class's sd to the common one. All classes are
        recorded by one detector, so their sds are similar: without this prior a class of a few
        dozen pixels may become a wide background to all others.
      trend: (scale, degrees of freedom) of the Student-t prior of the trend coefficients, about 0.
      dof: log-normal prior of the degrees of freedom of Student-t classes.
      log_odds: normal prior, in the first frame, of each class's log odds against the reference
        class (movies).
      reference: rank of the reference class of those log odds; None is the most common one.
      walk_weights: log-normal prior of the sd of the frame-to-frame step of the log odds (movies).
      walk_trend: log-normal prior of the sd of the frame-to-frame step of a trend coefficient
        (movies).
      field: with local proportions, in the place of `log_odds`: normal prior, in the first frame,
        of each class's field against that of the reference class.
      strength: sd of the log of the interaction's strength about the fitted one.
      scaling: (centre, scale), grey levels, of the standardised grey values; None: from the
        batch item's own pixels.

    Raises:
      UsageError: a scale, a concentration or a median that is not above 0.
    """

    weights: float = setting(1.0, "a Dirichlet concentration above 0", gt=0)
    lowest_mean: tuple[float, float] | None = setting(None, LOCATED)
    gap: tuple[float, float] | None = setting(None, LOG)
    sd: tuple[float, float] | None = setting(None, LOG)
    sd_ratio: float = setting(0.3, "an sd of the log above 0", gt=0)
    trend: tuple[float, float] = setting((0.25, 3.0), "[scale, degrees of freedom]")
    dof: tuple[float, float] = setting((8.0, 0.75), LOG)
    log_odds: tuple[float, float] = setting((-1.0, 2.5), LOCATED)
    reference: int | None = setting(
        None, "a class rank, 0 the darkest, that log odds are against", ge=0
    )
    walk_weights: tuple[float, float] = setting((0.1, 1.0), LOG)
    walk_trend: tuple[float, float] = setting((0.02, 1.0), LOG)
    field: tuple[float, float] = setting((0.0, 1.0), LOCATED)
    strength: float = setting(0.5, "an sd of the log above 0", gt=0)
    scaling: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name != "reference":
                _check_prior(field.name, value)


def _check_prior(name: str, value: Any) -> None:
    has_location = name in ("lowest_mean", "log_odds", "field", "scaling")
    if isinstance(value, tuple) and len(value) != 2:
        raise UsageError(f"prior {name} = {value}: give two numbers")
    positive = value[1:] if has_location else value if isinstance(value, tuple) else (value,)
    if not all(p > 0 for p in positive):
        raise UsageError(
            f"prior {name} = {value} is not allowed; its "
            f"{'scale' if has_location else 'numbers'} must be above 0"
        )


class WalkApproximation(eqx.Module):
    """Normal approximation of each frame's likelihood in the D random walks, for S shared
    parameters: K class means, K log sds and, with local proportions, the log strength.

    In frame t and walk j the likelihood is about that of a normal distribution with precision
    `precision[j, t]` and mean `centre[j, t] + slope[j, t] . (shared - at)`.
    """

    centre: Float[Array, "D T"]
    precision: Float[Array, "D T"]
    slope: Float[Array, "D T S"]
    at: Float[Array, " S"]


class Problem(eqx.Module):
    """One batch item: sizes and priors (static, part of the compiled program) and its pixels.

    Attributes:
      n_classes, n_terms: K classes and P trend terms.
      movie: means and sds are shared by all frames, and log odds and trend are random walks over
        them; False: the item is a single frame.
      priors: see `Priors`.
      subsample: pixels per frame and step of stochastic gradients; None uses all.
      pixels: standardised grey values, trend terms and weights (0 for padding and for saturated
        pixels) of T frames.
      saturated: pixels that are only known to be at least as bright as the saturation level.
      noise: family of the classes, and censoring.
      baseline: log-likelihood of each frame at the mode, nats. It is subtracted, so that float32
        keeps the digits of differences.
      grey_step: step between recorded grey levels, standardised; class variances include
        grey_step^2 / 12 of rounding (Sheppard's correction).
      reference: rank of the class that log odds are relative to.
      strength: with local proportions the fitted strength of the interaction, which its prior is
        about; the design of the pixels then has the rows that `Mixture` names. None: the frames'
        own weights.
      walks: approximation by which the walks are whitened; None leaves them as they are.
    """

    n_classes: int = eqx.field(static=True)
    n_terms: int = eqx.field(static=True)
    movie: bool = eqx.field(static=True)
    priors: Priors = eqx.field(static=True)
    pixels: Item
    saturated: Item | None
    noise: ClassNoise
    baseline: Float[Array, " T"]
    grey_step: Float[Array, ""]
    reference: Int[Array, ""]
    walks: WalkApproximation | None = None
    strength: Float[Array, ""] | None = None
    subsample: int | None = eqx.field(static=True, default=None)

    @property
    def local(self) -> bool:
        """Whether the proportions of the classes follow the neighbours."""
        return self.strength is not None

    @property
    def n_frames(self) -> int:
        return self.pixels.values.shape[0]

    @property
    def dtype(self) -> Any:
        """Floating-point type of the pixels."""
        return self.pixels.values.dtype
