"""Convergence diagnostics of draws: r-hat, effective sample sizes, divergences, energies."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import types
import warnings
from collections.abc import Iterator

import numpy as np
import xarray as xr
from jaxtyping import Float

R_HAT_LIMIT = 1.01
BFMI_LIMIT = 0.3
OVERLAP_LIMIT = 0.1  # least share of effective draws that a normal approximation should keep


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Whether the draws can be trusted, and which parameters have not converged.

    Attributes:
      table: (r-hat, bulk and tail effective sample size) of each parameter (NUTS only).
      divergences: divergent transitions after the warm-up.
      bfmi: energy Bayesian fraction of missing information of each chain (NUTS only); for frames
        on their own the smallest over frames.
      overlap: effective share of importance draws that a Laplace approximation keeps of the
        posterior; for frames on their own the smallest over frames.
      bad: parameters with r-hat above 1.01.
      complete: False where sampling was interrupted.
    """

    table: dict[str, tuple[float, float, float]]
    divergences: int
    bfmi: tuple[float, ...]
    overlap: float | None
    bad: tuple[str, ...]
    complete: bool

    @property
    def trusted(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for the top of the report; empty if all is well."""
        out = []
        if not self.complete:
            out.append("sampling was interrupted: what had been drawn is kept, incomplete")
        if self.bad:
            out.append(self._disagreement())
        if self.divergences:
            out.append(
                f"{self.divergences} divergent transitions remain, so parts of the posterior may "
                "be missed; raise target_accept towards 0.99 or use fewer classes"
            )
        low = [i for i, b in enumerate(self.bfmi) if b < BFMI_LIMIT]
        if low:
            out.append(f"E-BFMI is below {BFMI_LIMIT} in chain(s) {low}: energies mix slowly")
        if self.overlap is not None and self.overlap < OVERLAP_LIMIT:
            out.append(
                f"the normal approximation holds {100 * self.overlap:.2g} % of the posterior's "
                "effective draws; use method = 'nuts'"
            )
        return tuple(out)

    def _disagreement(self) -> str:
        worst = max(self.bad, key=lambda n: self.table[n][0])
        some = ", ".join(self.bad[:12]) + (" ..." if len(self.bad) > 12 else "")
        return (
            f"chains disagree: r-hat is above {R_HAT_LIMIT} for {some} (worst {worst}, "
            f"{self.table[worst][0]:.3f}); do not use these figures: draw more, raise the "
            "warm-up, or use fewer classes"
        )


def diagnose(draws: xr.Dataset, stats: xr.Dataset, method: str, complete: bool) -> Diagnostics:
    """Diagnostics of the groups `posterior` and `sample_stats`; see `Posterior.diagnose`."""
    if method != "nuts":
        overlap = _overlap(stats["log_ratio"].values) if "log_ratio" in stats else None
        return Diagnostics({}, 0, (), overlap, (), complete)
    table = _table(draws)
    bad = tuple(n for n, (r_hat, _, _) in table.items() if r_hat > R_HAT_LIMIT)
    divergences = int(stats["diverging"].values.sum())
    return Diagnostics(table, divergences, _bfmi(stats["energy"].values), None, bad, complete)


def _overlap(log_ratio: Float[np.ndarray, "chain draw ..."]) -> float:
    """Effective sample size of the importance weights, as a share of the draws."""
    flat = log_ratio.reshape(-1, *log_ratio.shape[2:])
    w = np.exp(flat - flat.max(axis=0))
    return float(np.min(w.sum(axis=0) ** 2 / (w**2).sum(axis=0) / len(flat)))


def _bfmi(energy: Float[np.ndarray, "chain draw ..."]) -> tuple[float, ...]:
    moves = np.mean(np.diff(energy, axis=1) ** 2, axis=1) / np.var(energy, axis=1)
    return tuple(float(b) for b in moves.reshape(moves.shape[0], -1).min(axis=1))


def _table(draws: xr.Dataset) -> dict[str, tuple[float, float, float]]:
    """r-hat, bulk and tail effective sample size of every parameter that varies."""
    az = import_arviz()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants (a single class's weight) divide 0 by 0
        found = [az.rhat(draws), az.ess(draws, method="bulk"), az.ess(draws, method="tail")]
    table = {}
    for name in draws.data_vars:
        for at in np.ndindex(*found[0][name].shape):
            label = f"{name}[{', '.join(map(str, at))}]" if at else str(name)
            r_hat, bulk, tail = (float(t[name].values[at]) for t in found)
            if np.isfinite(r_hat):
                table[label] = (r_hat, bulk, tail)
    return table


def import_arviz() -> types.ModuleType:
    """ArviZ, without the notice about its next major version.

    ArviZ 0.23 gives that notice once a day, as a FutureWarning on import, and keeps the date in
    the user's cache folder: where warnings are errors, or the folder cannot be written to, the
    import would fail.
    """
    with warnings.catch_warnings():
        message = r"\s*ArviZ is undergoing a major refactor"
        warnings.filterwarnings("ignore", message=message, category=FutureWarning)
        try:
            import arviz
        except OSError:
            with _temporary_cache():
                import arviz
    return arviz


@contextlib.contextmanager
def _temporary_cache() -> Iterator[None]:
    """An empty cache folder of the user for the time of the context."""
    name = "XDG_CACHE_HOME"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before
