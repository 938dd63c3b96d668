"""jaxmicro: quantities with honest error bars from microscopy that saw too few counts.

The names most sessions need are here; each is loaded when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Movie": "data.movie",
    "Image": "data.movie",
    "Pixels": "data.sampling",
    "sample": "data.sampling",
    "read_movie": "data.read",
    "read_image": "data.read",
    "read_volume": "data.read",
    "read_mask": "data.read",
    "operando": "data.phantom",
    "GMRM": "mixture.gmrm",
    "Params": "mixture.gmrm",
    "Trend": "mixture.trend",
    "Fit": "mixture.ecm",
    "Result": "mixture.ecm",
    "fit": "mixture.ecm",
    "criteria": "mixture.criteria",
    "Neighbourhood": "spacetime.neighbourhood",
    "vote": "spacetime.correct",
    "Local": "spacetime.local",
    "fit_local": "spacetime.local",
    "dense_maps": "spacetime.dense",
    "SoftVote": "spacetime.soft_vote",
    "soft_vote": "spacetime.soft_vote",
    "learn_correction": "spacetime.learn",
    "partition": "growth.partition",
    "estimate": "growth.estimate",
    "Growth": "growth.estimate",
    "Noise": "posterior",
    "Priors": "posterior",
    "Posterior": "posterior",
    "Sampler": "posterior",
    "Recipe": "dictionary.coupled",
    "build_dictionary": "dictionary.enhance:build",
    "enhance": "dictionary.enhance",
}
__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxmicro' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(importlib.import_module(f"jaxmicro.{module}"), attribute or name)


def __dir__() -> list[str]:
    return __all__
