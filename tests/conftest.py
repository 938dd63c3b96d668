"""Strictness for every test: x64 on, no implicit rank promotion, shapes checked at run time.

Real-data tests ask for the `data_dir` fixture; it skips, with the reason, where the data are not.
"""

import gc
import importlib.metadata
import os
import pathlib
import tempfile

# Compilation is most of a test run: take the compiler's quick road where it knows the way. Programs
# run two to three times slower for it, which nothing here measures. Must precede `import jax`.
_QUICK = ["--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # an unknown flag stops the process
    _QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_QUICK]).strip()

import hypothesis
import jax
import matplotlib
import numpy as np
import platformdirs
import pytest
from hypothesis.internal.conjecture import providers
from jaxtyping import install_import_hook

matplotlib.use("Agg")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Annotated shapes are enforced in the whole library while tests run.
install_import_hook("jaxmicro", "beartype.beartype")

# Property tests try the same examples everywhere. `JAXMICRO_HYPOTHESIS=hunt` tries other ones, and
# many more, in each run; a failure prints the line that repeats it.
hypothesis.settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, max_examples=20
)
hypothesis.settings.register_profile(
    "hunt", deadline=None, database=None, max_examples=1000, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("JAXMICRO_HYPOTHESIS", "fixed"))
# It also tries numbers that it finds in the source of loaded modules, so a test would see other
# examples alone than in the whole suite, and after every edit.
providers._get_local_constants = lambda: providers._local_constants


def _can_be_written(folder: pathlib.Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


# ArviZ keeps the day of its last notice in the user's cache folder and cannot be imported without.
if not _can_be_written(platformdirs.user_cache_path("arviz", "arviz")):
    _cache = tempfile.TemporaryDirectory(prefix="jaxmicro-tests-")
    os.environ["XDG_CACHE_HOME"] = _cache.name

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


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """Every compiled program maps memory; Linux ends a process with more than 65 530 maps."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 25_000:
        jax.clear_caches()
        gc.collect()
