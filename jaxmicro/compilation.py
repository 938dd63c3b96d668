"""The cache of compiled programs: compilation is most of a short run."""

from __future__ import annotations

import os
import pathlib
import sys

LEAST_S = 0.3  # programs that compile quicker are not worth a file


def cache_folder() -> pathlib.Path:
    """Where compiled programs are kept: `$JAX_COMPILATION_CACHE_DIR`, or a folder of the user's."""
    said = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if said:
        return pathlib.Path(said)
    user = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return user / "jaxmicro"


def use_compilation_cache(folder: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Keep compiled programs from session to session, as the commands do; never done by an import.

    It is a setting of JAX and so of the whole process. Call it before the first computation: what
    is compiled already is not kept.

    Args:
      folder: where; default is the folder of the commands: `$JAX_COMPILATION_CACHE_DIR`, or
        `jaxmicro` in the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`).

    Returns:
      The folder.
    """
    path = cache_folder() if folder is None else pathlib.Path(folder)
    if "jax" not in sys.modules:  # it reads these when it is imported
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(path)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(LEAST_S))
        return path
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", str(path))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_S)
    compilation_cache.reset_cache()  # JAX looks for its cache once, at the first compilation
    return path
