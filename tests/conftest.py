"""Strictness for every test: x64 on, no implicit rank promotion, shapes checked at run time.

Real-data tests ask for the `data_dir` fixture; it skips, with the reason, where the data are not.
"""

import importlib.metadata
import os
import pathlib

# Compilation is most of a test run: take the compiler's quick road where it knows the way. Programs
# run two to three times slower for it, which nothing here measures. Must precede `import jax`.
_QUICK = ["--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # an unknown flag stops the process
    _QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_QUICK]).strip()

import jax
import matplotlib
import numpy as np
import pytest
from jaxtyping import install_import_hook

matplotlib.use("Agg")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Annotated shapes are enforced in the whole library while tests run.
install_import_hook("jaxmicro", "beartype.beartype")

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The folder of real microscopy data: `$JAXMICRO_DATA` or `../shared/data`."""
    folder = pathlib.Path(os.environ.get("JAXMICRO_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set JAXMICRO_DATA to its folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(20240607)
