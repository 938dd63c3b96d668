"""dictionary.npz: a learned dictionary with its calibration, as plain arrays."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from jaxmicro.dictionary.enhance import Dictionary
from jaxmicro.dictionary.learning_file import read_arrays
from jaxmicro.dictionary.noise import Noise
from jaxmicro.dictionary.stage import Stage
from jaxmicro.errors import DataError

FORMAT = "jaxmicro-dictionary-2"
_STAGE_ARRAYS = ("coding", "whitener", "rebuilding", "levels")
_STAGE_NUMBERS = ("size", "upscale", "penalty", "bound", "nonnegative", "ridge", "tolerance")


def save_dictionary(path: str | pathlib.Path, dictionary: Dictionary) -> None:
    """dictionary.npz: plain arrays only, so that reading it never runs anything."""
    arrays: dict[str, Any] = {
        "format": np.array(FORMAT),
        "variant": np.array(dictionary.variant),
        "pixel_size_nm": np.array(dictionary.pixel_size_nm),
        "blur_fwhm_nm": np.array(dictionary.blur_fwhm_nm),
        "noise_sd": np.array(dictionary.noise.sd),
        "noise_correlation": dictionary.noise.correlation,
        "noise_windows": np.array(dictionary.noise.n_windows),
        "noise_cutoff": np.array(dictionary.noise_cutoff),
        "choices": np.array(dictionary.choices, float).reshape(-1, 2),
        "trace": dictionary.trace,
        "usage": dictionary.usage,
        "n_stages": np.array(len(dictionary.stages)),
    }
    for i, stage in enumerate(dictionary.stages):
        for name in _STAGE_ARRAYS + _STAGE_NUMBERS:
            arrays[f"stage{i}_{name}"] = np.asarray(getattr(stage, name))
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_dictionary(path: str | pathlib.Path) -> Dictionary:
    """Read a dictionary that `save_dictionary` wrote; nothing in the file is executed.

    Raises:
      DataError: the file is missing, not ours, or its arrays do not fit one another.
    """
    arrays = read_arrays(path, FORMAT)
    try:
        stages = []
        for i in range(int(arrays["n_stages"])):
            get = {n: arrays[f"stage{i}_{n}"] for n in _STAGE_ARRAYS + _STAGE_NUMBERS}
            k, m = get["coding"].shape
            (q,) = get["levels"].shape
            out = (int(get["size"]) * int(get["upscale"])) ** 2
            fits = (
                m == int(get["size"]) ** 2
                and get["whitener"].shape == (m, m)
                and get["rebuilding"].shape == ((q, 2 * k + m + 1, out) if q else (k, out))
                and np.all(np.diff(get["levels"]) > 0)
                and all(np.isfinite(get[n]).all() for n in _STAGE_ARRAYS)
            )
            if not fits:
                raise DataError(f"{path}: pass {i + 1} holds arrays that do not fit; learn it anew")
            fields: dict[str, Any] = {n: get[n] for n in _STAGE_ARRAYS}
            fields |= {n: get[n].item() for n in _STAGE_NUMBERS}
            stages.append(Stage(**fields))
        noise = Noise(
            float(arrays["noise_sd"]), arrays["noise_correlation"], int(arrays["noise_windows"])
        )
        return Dictionary(
            tuple(stages),
            str(arrays["variant"]),
            float(arrays["pixel_size_nm"]),
            float(arrays["blur_fwhm_nm"]),
            noise,
            float(arrays["noise_cutoff"]),
            tuple((float(a), float(b)) for a, b in arrays["choices"]),
            arrays["trace"],
            arrays["usage"],
        )
    except (KeyError, ValueError, TypeError) as err:
        raise DataError(f"{path}: the dictionary is incomplete ({err}); learn it anew") from err
