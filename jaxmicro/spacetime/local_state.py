"""The records of a local fit: how it runs, what it sees, where it stands, what it leaves."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import Item
from jaxmicro.mixture.gmrm import Params, Stats
from jaxmicro.mixture.problem import Fit
from jaxmicro.spacetime.local_em import Coupling, Fold
from jaxmicro.spacetime.smooth import Cells


class Settings(eqx.Module):
    """How one local fit runs: numbers as arrays, so that new values do not compile again.

    `widths` (pixels) and `cells` belong to the kernels from the narrowest to the widest; `coupling`
    is that of the start, which stays unless `learn`; `buffer`
    is the sd of the hole in them, or None; `classes` and `terms` (0 or 1) say what of the model is
    in use, `places` where pixels lie for the kernel if not where they lie in the frame, `fold`
    which pixels vote and which are judged, `held` whether the parameters of the classes stay as
    they are; `decay` is the weight of the next frame;
    `sd_floor` is in grey values, `tolerance` in nats per pixel. The trace has `max_steps` places,
    of which `steps` are used at most.
    """

    widths: tuple[Float[Array, ""], ...]
    decay: Float[Array, ""]
    pseudo_count: Float[Array, ""]
    coupling: Coupling
    tolerance: Float[Array, ""]
    sd_floor: Float[Array, ""]
    buffer: Float[Array, ""] | None
    classes: Int[Array, ""]
    terms: Float[Array, " P"]
    places: tuple[Int[Array, "*#batch n"], Int[Array, "*#batch n"]] | None
    fold: Fold | None
    held: Bool[Array, ""]
    steps: Int[Array, ""]
    cells: tuple[Cells, ...] = eqx.field(static=True)
    causal: bool = eqx.field(static=True)
    learn: bool = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)


class Observed(eqx.Module):
    """Pixels of one movie and the trend's design there.

    Places, weights and design have an axis S: the frames, or 1 where all share the same places.
    """

    pixels: Pixels
    design: Float[Array, "P S n"]

    @property
    def item(self) -> Item:
        return Item(self.pixels.values, self.design, self.pixels.weight)


class Past(eqx.Module):
    """Decayed class and count maps of each kernel, where a causal fit of later frames starts."""

    maps: tuple[Float[Array, "K Y X"], ...]


class Best(eqx.Module):
    """The parameters of the highest pseudo-likelihood so far, nats per pixel, and their step."""

    params: Params
    coupling: Coupling
    value: Float[Array, "*B"]
    step: Int[Array, "*B"]


class Seen(eqx.Module):
    """What the last pass over the pixels summed: log-likelihood and sufficient statistics."""

    log_likelihood: Float[Array, "*B T"]
    stats: Stats


class State(eqx.Module):
    """Where a fit stands; parameters are standardised, `old` holds responsibilities.

    `left` counts the passes that are left when the parameters have ended (0: none), or is
    -1 before.
    """

    params: Params
    old: Float[Array, "*B T k n"]
    coupling: Coupling
    steps: Int[Array, "*B"]
    gap: Float[Array, "*B"]
    length: Float[Array, "*B"]
    trace: Float[Array, "*B steps"]
    unfinished: Bool[Array, "*B"]
    best: Best
    left: Int[Array, "*B"]
    seen: Seen


class Found(eqx.Module):
    """What a fit leaves; see `jaxmicro.spacetime.local.LocalFit`."""

    fit: Fit
    responsibilities: Float[Array, "*batch K n"]
    neighbours: Float[Array, "*batch n"]
    coupling: Coupling
    past: Past | None
