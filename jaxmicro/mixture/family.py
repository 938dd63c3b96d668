"""The distribution of a class about its mean: normal, Student-t, or normal with a detector's noise.

The density of class k is exp(g(u)) / sd_k with u = (z - mean at the pixel) / sd_k. A family gives
g, the weight w(u) = -g'(u) / u with which a pixel counts in the class's mean and sd, and what ties
the classes together: its `law`, a few numbers common to all classes of a frame.

| family | g(u) | law |
| --- | --- | --- |
| gaussian | -u^2 / 2 - log(2 pi) / 2 | none |
| student-t | c(nu) - (nu + 1) / 2 log(1 + u^2 / nu) | nu, the degrees of freedom |
| poisson-gaussian | as gaussian, sd_k^2 = r + q (mean_k - o) | r, q, o |

Where frames share the sds they share the law. `sds` of Student-t classes are scales: the standard
deviation is larger by sqrt(nu / (nu - 2)).

Sources: Peel and McLachlan (2000), Stat. Comput. 10:339 (mixtures of t distributions). Liu and
Rubin (1995), Stat. Sinica 5:19 (ECM for the degrees of freedom). Foi et al. (2008), IEEE Trans.
Image Process. 17:1737 (variance of a detector that counts quanta).
"""

from __future__ import annotations

import dataclasses
import math
from types import ModuleType
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.errors import UsageError
from jaxmicro.mixture.student import HALF_LOG_2PI, LEAST_DOF, log_constant
from jaxmicro.settings import setting

FIRST_DOF = 4.0  # where an estimate starts


@dataclasses.dataclass(frozen=True)
class Family:
    """What all families have in common; here it is the normal distribution.

    In all methods `law` has its numbers on the leading axis, each ready to broadcast against `u`;
    it is None for a family without numbers of its own. `xp` is `jax.numpy` or `numpy`.
    """

    name: ClassVar[str] = ""
    columns: ClassVar[tuple[tuple[str, str, str], ...]] = ()  # name, unit, meaning of each number
    sd_meaning: ClassVar[str] = "class standard deviations sigma_k"
    heavy_tailed: ClassVar[bool] = False  # pixels count with a weight w(u)
    ties_sds: ClassVar[bool] = False  # class sds follow from the means and the law

    @property
    def free(self) -> tuple[int, ...]:
        """Which numbers of the law are estimated."""
        return ()

    def constant(self, law: Any, xp: ModuleType = jnp) -> Any:
        """The part of g that does not depend on u."""
        return -HALF_LOG_2PI

    def kernel(self, u: Any, law: Any, xp: ModuleType = jnp) -> Any:
        """The part of g that depends on u."""
        return -0.5 * u * u

    def weight(self, u: Any, law: Any) -> Any:
        """w(u) = -g'(u) / u."""
        return jnp.ones_like(u)

    def scaled(self, law: Array, centre: Any, scale: Any) -> Array:
        """The law (..., L) of the grey values (z - centre) / scale."""
        return law

    def restored(self, law: Array, centre: Any, scale: Any) -> Array:
        """The law of the grey values from that of the standardised ones."""
        return law

    def begin(
        self,
        weights: Float[Array, "*b K"],
        means: Float[Array, "*b K"],
        sds: Float[Array, "*b K"],
        law: Float[Array, "*b L"] | None,
        centre: Any,
        scale: Any,
    ) -> tuple[Float[Array, "*b K"], Float[Array, "*b L"] | None]:
        """Class sds and law to start from; the law may be missing. All standardised."""
        return sds, None

    def sds(
        self,
        own: Float[Array, "*b K"],
        law: Float[Array, "*b L"] | None,
        means: Float[Array, "*b K"],
        floor: Any,
    ) -> Float[Array, "*b K"]:
        """Class sds: `own`, or those of a law that ties them, none below `floor`."""
        return own

    def density(self, z: np.ndarray, mean: float, sd: float, law: np.ndarray | None) -> np.ndarray:
        """Density of a class at grey values z, per grey level."""
        u = (z - mean) / sd
        return np.exp(self.constant(law, np) + self.kernel(u, law, np)) / sd

    def overlap(
        self, a: tuple[float, float], b: tuple[float, float], law: np.ndarray | None
    ) -> float:
        """Bhattacharyya coefficient of two classes (mean, sd): 1 if equal, 0 if far apart."""
        var = a[1] ** 2 + b[1] ** 2
        return float(np.sqrt(2 * a[1] * b[1] / var) * np.exp(-0.25 * (a[0] - b[0]) ** 2 / var))


@dataclasses.dataclass(frozen=True)
class Gaussian(Family):
    """Normal classes, each with an sd of its own."""

    name: ClassVar[str] = "gaussian"


@dataclasses.dataclass(frozen=True)
class StudentT(Family):
    """Classes with heavier tails than normal ones, for outliers such as hot pixels.

    Attributes:
      dof: degrees of freedom of all classes; None: estimated, between 1 and 1000.

    Raises:
      UsageError: `dof` is not a finite number of at least 1.
    """

    dof: float | None = setting(None, "degrees of freedom, at least 1; left out: estimated", ge=1)

    name: ClassVar[str] = "student-t"
    columns: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("degrees_of_freedom", "1", "degrees of freedom of the classes"),
    )
    sd_meaning: ClassVar[str] = "class scales; the sd is larger by sqrt(dof / (dof - 2))"
    heavy_tailed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.dof is not None and not LEAST_DOF <= self.dof < math.inf:
            raise UsageError(
                f"dof = {self.dof} is not allowed; use a number of at least 1, or leave it out to "
                "estimate it"
            )

    @property
    def free(self) -> tuple[int, ...]:
        return (0,) if self.dof is None else ()

    def constant(self, law: Any, xp: ModuleType = jnp) -> Any:
        return log_constant(law[0], xp)

    def kernel(self, u: Any, law: Any, xp: ModuleType = jnp) -> Any:
        return -0.5 * (law[0] + 1) * xp.log1p(u * u / law[0])

    def weight(self, u: Any, law: Any) -> Any:
        return (law[0] + 1) / (law[0] + u * u)

    def begin(
        self,
        weights: Float[Array, "*b K"],
        means: Float[Array, "*b K"],
        sds: Float[Array, "*b K"],
        law: Float[Array, "*b L"] | None,
        centre: Any,
        scale: Any,
    ) -> tuple[Float[Array, "*b K"], Float[Array, "*b L"] | None]:
        if self.dof is not None or law is None:
            dof = FIRST_DOF if self.dof is None else self.dof
            law = jnp.full((*means.shape[:-1], 1), dof, means.dtype)
        return sds, law

    def overlap(
        self, a: tuple[float, float], b: tuple[float, float], law: np.ndarray | None
    ) -> float:
        # sinh spreads the points of the integral over the tails
        z = 0.5 * (a[0] + b[0]) + max(a[1], b[1], abs(a[0] - b[0])) * np.sinh(
            np.linspace(-12, 12, 4001)
        )
        root = np.sqrt(self.density(z, *a, law) * self.density(z, *b, law))
        return float(min(np.trapezoid(root, z), 1.0))


@dataclasses.dataclass(frozen=True)
class PoissonGaussian(Family):
    """Normal classes whose variances follow the detector: r + q (mean_k - o).

    Only the line is identified, two numbers. What is given of the three fixes the line in part:
    with `grey_per_quantum` its slope is known, with `read_noise` and `offset` one of its points. A
    `read_noise` or an `offset` alone fixes nothing: the other follows from the line.

    Attributes:
      read_noise: sd in grey levels without signal, sqrt(r); None: estimated.
      grey_per_quantum: grey levels per detected quantum (electron, photon), q; None: estimated.
      offset: grey level without signal, o; None: estimated.

    Raises:
      UsageError: a number that no detector has.
    """

    read_noise: float | None = setting(None, "an sd of at least 0 grey levels", ge=0)
    grey_per_quantum: float | None = setting(
        None, "grey levels per detected quantum, above 0", gt=0
    )
    offset: float | None = setting(None, "grey level without signal")

    name: ClassVar[str] = "poisson-gaussian"
    columns: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("variance_at_offset", "grey^2", "variance of a class with its mean at the offset"),
        ("grey_per_quantum", "grey", "rise of the variance per grey level of the mean"),
        ("offset", "grey", "grey level that variance_at_offset belongs to; 0 where none was given"),
    )
    ties_sds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.read_noise is not None and not 0 <= self.read_noise < math.inf:
            raise UsageError(
                f"read_noise = {self.read_noise} is not allowed; use an sd of at least 0 grey "
                "levels, or leave it out to estimate it"
            )
        quantum = self.grey_per_quantum
        if quantum is not None and not 0 < quantum < math.inf:
            raise UsageError(
                f"grey_per_quantum = {quantum} is not allowed; use a number of grey levels above "
                "0, or leave it out to estimate it"
            )
        if self.offset is not None and not math.isfinite(self.offset):
            raise UsageError(f"offset = {self.offset} is not allowed; use a grey level")

    @property
    def _point_known(self) -> bool:
        return self.read_noise is not None and self.offset is not None

    @property
    def free(self) -> tuple[int, ...]:
        r = () if self._point_known else (0,)
        return r if self.grey_per_quantum is not None else (*r, 1)

    def known(self, centre: float, scale: float) -> tuple[float, float, float]:
        """The law of standardised grey values as far as it is given; what is not is 0."""
        r = 0.0 if self.read_noise is None else (self.read_noise / scale) ** 2
        q = 0.0 if self.grey_per_quantum is None else self.grey_per_quantum / scale
        return r, q, 0.0 if self.offset is None else (self.offset - centre) / scale

    def scaled(self, law: Array, centre: Any, scale: Any) -> Array:
        r, q, o = law[..., 0], law[..., 1], law[..., 2]
        return jnp.stack([r / scale**2, q / scale, (o - centre) / scale], axis=-1)

    def restored(self, law: Array, centre: Any, scale: Any) -> Array:
        r, q, o = law[..., 0] * scale**2, law[..., 1] * scale, law[..., 2] * scale + centre
        at = jnp.zeros_like(o) if self.offset is None else jnp.full_like(o, self.offset)
        return jnp.stack([r + q * (at - o), q, at], axis=-1)

    def begin(
        self,
        weights: Float[Array, "*b K"],
        means: Float[Array, "*b K"],
        sds: Float[Array, "*b K"],
        law: Float[Array, "*b L"] | None,
        centre: Any,
        scale: Any,
    ) -> tuple[Float[Array, "*b K"], Float[Array, "*b L"] | None]:
        # A line about the middle of the grey values: its two numbers are all but independent.
        batch, dtype = means.shape[:-1], means.dtype
        o = jnp.zeros((), dtype) if self.offset is None else (self.offset - centre) / scale
        o = jnp.broadcast_to(o, batch).astype(dtype)
        middle = jnp.sum(weights * means, axis=-1)
        variance = jnp.sum(weights * sds**2, axis=-1)
        if law is None:
            law = jnp.stack([variance, jnp.zeros_like(o), middle], axis=-1)
        q = law[..., 1]
        if self.grey_per_quantum is not None:
            q = jnp.broadcast_to(self.grey_per_quantum / scale, batch).astype(dtype)
        there = law[..., 0] + law[..., 1] * (middle - law[..., 2])  # variance at the middle
        r = there - q * (middle - o)
        if self._point_known:
            r = jnp.broadcast_to((self.read_noise / scale) ** 2, batch).astype(dtype)  # type: ignore[operator]
            if self.grey_per_quantum is None:
                q = (there - r) / jnp.where(jnp.abs(middle - o) > 1e-3, middle - o, 1e-3)
        law = jnp.stack([r, q, o], axis=-1)
        return self.sds(sds, law, means, 1e-3), law

    def sds(
        self,
        own: Float[Array, "*b K"],
        law: Float[Array, "*b L"] | None,
        means: Float[Array, "*b K"],
        floor: Any,
    ) -> Float[Array, "*b K"]:
        if law is None:
            raise ValueError(f"parameters of family {self.name!r} need a law")
        variance = law[..., :1] + law[..., 1:2] * (means - law[..., 2:])
        return jnp.sqrt(jnp.maximum(variance, floor**2))


GAUSSIAN = Gaussian()
FAMILIES: tuple[type[Family], ...] = (Gaussian, StudentT, PoissonGaussian)
NAMES = tuple(family.name for family in FAMILIES)


def family_of(name: str, **numbers: float | None) -> Family:
    """The family of that name; numbers that are None are estimated.

    Raises:
      UsageError: an unknown name, a number that the family does not have, or an impossible one.
    """
    found = [family for family in FAMILIES if family.name == name]
    if not found:
        raise UsageError(f"family = {name!r} is not known; use one of {', '.join(NAMES)}")
    known = [field.name for field in dataclasses.fields(found[0])]
    given = {key: value for key, value in numbers.items() if value is not None}
    for key, value in given.items():
        if key not in known:
            owner = next(
                f.name for f in FAMILIES if key in {field.name for field in dataclasses.fields(f)}
            )
            raise UsageError(
                f"{key} = {value:g} has no effect with family = {name!r}; leave it out or use "
                f"family = {owner!r}"
            )
    return found[0](**given)
