"""The cache of compiled programs: one folder for commands and sessions, never by an import."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxmicro.compilation import cache_folder

SESSION = """
import json, sys
import numpy as np
import jaxmicro as jm
assert not jm.Movie(np.zeros((1, 8, 8))).times_s
before = [n for n in sys.modules if n == "jax"]
if sys.argv[2] == "late":
    import jax, jax.numpy as jnp
    jnp.zeros(3) + 1
folder = jm.use_compilation_cache(sys.argv[1] or None)
import jax
hits = []
jax.monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None
)
grey = np.random.default_rng(0).normal(100, 10, (2, 12, 10)) + 60 * (np.arange(10) > 5)
fit = jm.fit(jm.GMRM(2), jm.sample(0, jm.Movie(grey)))
print(json.dumps([str(folder), len(hits), np.asarray(fit.params.means).tolist(), before]))
"""


def session(folder, when, **environment):
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(folder), when],
        env=plain | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["early", "late"])
def test_a_second_session_compiles_no_large_program_again(tmp_path, when):
    folder, hits, first, jax_was_loaded = session(tmp_path / "cache", when)
    assert folder == str(tmp_path / "cache")
    assert not jax_was_loaded  # neither the import nor a Movie loads JAX or sets anything
    kept = [p for p in pathlib.Path(folder).iterdir() if p.name.endswith("-cache")]
    assert any("_advance" in p.name for p in kept)
    assert hits == 0
    _, hits, second, _ = session(tmp_path / "cache", when)
    assert hits >= len(kept)
    assert second == first


def test_the_folder_is_the_commands(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "jaxmicro"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "other"))
    assert cache_folder() == tmp_path / "other"
    source = pathlib.Path(sys.modules["jaxmicro"].__file__).parent / "app" / "cli" / "__init__.py"
    text = source.read_text(encoding="utf-8")
    assert '"XDG_CACHE_HOME"' in text
    assert 'cache / "jaxmicro"' in text
