"""Learning: a planted dictionary is found, runs repeat and resume, files are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.dictionary import learn as dl
from jaxmicro.dictionary import learning_file as lf
from jaxmicro.dictionary.encode import encode
from jaxmicro.errors import DataError, UsageError

K, M = 20, 16


@pytest.fixture(scope="module")
def planted():
    """(patches, atoms): three atoms a patch, amplitudes around 1, little noise."""
    rng = np.random.default_rng(7)
    atoms = rng.standard_normal((K, M))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = np.zeros((6000, K))
    for row in codes:
        row[rng.choice(K, 3, replace=False)] = rng.uniform(0.5, 1.5, 3) * rng.choice([-1, 1], 3)
    return codes @ atoms + 0.01 * rng.standard_normal((6000, M)), atoms


def options(**changes):
    return dl.LearningOptions(**({"n_atoms": K, "batch": 256, "passes": 5.0, "rho": 8.0} | changes))


def match(found, atoms):
    """Mean over planted atoms of the best absolute correlation."""
    scaled = found / np.linalg.norm(found, axis=1, keepdims=True)
    return np.abs(scaled @ atoms.T).max(axis=0).mean()


def test_planted_dictionary_is_recovered(planted):
    patches, atoms = planted
    learned = dl.learn(patches[500:], 0.1, options(), 3, held_out=patches[:500])
    assert match(learned.atoms, atoms) > 0.95
    assert np.all(np.linalg.norm(learned.atoms, axis=1) <= 1 + 1e-12)
    # the held-out objective falls from the first check to the last
    assert learned.trace[-1, 2] < learned.trace[0, 2]


def test_same_seed_same_dictionary_and_resuming_goes_on(planted, tmp_path):
    patches, _ = planted
    short = options(passes=2.0)
    one, other = (dl.learn(patches, 0.1, short, 5) for _ in range(2))
    np.testing.assert_array_equal(one.atoms, other.atoms)
    lf.save_learning(tmp_path / "state.npz", one)
    back = lf.load_learning(tmp_path / "state.npz")
    np.testing.assert_array_equal(back.moments, one.moments)
    on = dl.learn(patches, 0.1, short, 5, start=back, held_out=patches[:300])
    again = dl.learn(patches, 0.1, short, 5, start=one, held_out=patches[:300])
    np.testing.assert_array_equal(on.atoms, again.atoms)
    assert on.minibatches == 2 * one.minibatches
    before = dl.objectives(patches[:300], encode(patches[:300], one.atoms, 0.1), one.atoms, 0.1)
    assert on.trace[-1, 2] < before.mean()
    with pytest.raises(UsageError, match="resume"):
        dl.learn(patches[:, :9], 0.1, short, 5, start=one)


def test_adam_variant_learns_but_is_told_apart(planted):
    patches, _ = planted
    start = dl.learn(patches, 0.1, options(passes=0.05, updates="adam"), 1)
    later = dl.learn(
        patches, 0.1, options(passes=4.0, updates="adam", learning_rate=0.02), 1,
        held_out=patches[:300],
    )  # fmt: skip
    assert later.trace[-1, 2] < later.trace[0, 2]
    assert not np.array_equal(start.atoms, later.atoms)


def test_early_stop_ends_a_run_that_gains_nothing(planted):
    patches, _ = planted
    stopped = dl.learn(
        patches, 0.1, options(passes=12.0, early_stop=0.9), 1, held_out=patches[:300]
    )
    assert stopped.stopped_early
    assert len(stopped.trace) == dl.PATIENCE + 1


def test_nonnegative_codes_and_unused_atoms(planted):
    patches, _ = planted
    parts = np.abs(patches)
    learned = dl.learn(parts, 0.1, options(passes=3.0, nonnegative=True), 2)
    codes = encode(parts[:200], learned.atoms, 0.1, nonnegative=True)
    assert codes.values.min() >= 0
    # an unused atom is replaced by a patch that is coded badly
    atoms = jnp.zeros((K, M)).at[0].set(1.0 / np.sqrt(M))
    unused = np.arange(K) > 0
    coded = encode(patches[:64], np.asarray(atoms) + 1e-9, 0.1)
    state = dl._State(atoms, jnp.ones((K, K)), jnp.ones((K, M)), None)
    new = dl._with_replaced(state, unused, patches[:64], coded)
    np.testing.assert_allclose(np.linalg.norm(new.atoms, axis=1), 1.0)
    assert new.moments[0, 0] == 1
    assert not np.any(new.moments[1:])


def test_atom_update_never_raises_the_surrogate_and_stays_in_the_ball(rng):
    codes, patches = rng.standard_normal((50, K)), rng.standard_normal((50, M))
    atoms = rng.standard_normal((K, M))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    zero = jnp.zeros((K, K)), jnp.zeros((K, M))
    moments, products = dl.accumulate(*zero, codes, patches, jnp.asarray(1.0))

    def surrogate(d):
        return 0.5 * jnp.sum((d @ d.T) * moments) - jnp.sum(d * products)

    last = float(surrogate(atoms))
    for _ in range(5):
        atoms = dl.update_atoms(jnp.asarray(atoms), moments, products)
        value = float(surrogate(atoms))
        assert value <= last + 1e-10 * abs(last)
        last = value
    assert np.all(np.linalg.norm(atoms, axis=1) <= 1 + 1e-12)
    # an atom that no patch used stays
    still = dl.update_atoms(atoms, moments.at[3].set(0).at[:, 3].set(0), products.at[3].set(0))
    np.testing.assert_array_equal(still[3], atoms[3])


def test_loss_gradient_against_finite_differences(rng):
    codes, patches = (jnp.asarray(rng.standard_normal(s)) for s in ((9, 4), (9, 5)))
    atoms = jnp.asarray(rng.standard_normal((4, 5)))
    gradient = jax.grad(dl.reconstruction_loss)(atoms, codes, patches)
    step = 1e-6
    for i, j in ((0, 0), (2, 3), (3, 4)):
        bump = jnp.zeros((4, 5)).at[i, j].set(step)
        slope = (
            dl.reconstruction_loss(atoms + bump, codes, patches)
            - dl.reconstruction_loss(atoms - bump, codes, patches)
        ) / (2 * step)
        assert abs(float(slope - gradient[i, j])) < 1e-8  # rounding 1e-16 over the step


def test_update_lowers_for_cpu_cuda_and_tpu():
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((K, M), (K, K), (K, M))]
    jax.export.export(jax.jit(dl.update_atoms), platforms=("cpu", "cuda", "tpu"))(*shapes)


def test_bad_input_is_refused(tmp_path, planted):
    patches, _ = planted
    with pytest.raises(DataError, match="10 training patches are fewer than 20 atoms"):
        dl.learn(patches[:10], 0.1, options(), 0)
    with pytest.raises(DataError, match="no contrast"):
        dl.learn(np.zeros((300, M)), 0.1, options(), 0)
    with pytest.raises(UsageError, match="'sgd'"):
        options(updates="sgd")
    (tmp_path / "x.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"x\.npz"):
        lf.load_learning(tmp_path / "x.npz")
    np.savez(tmp_path / "object.npz", format=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"object\.npz"):
        lf.load_learning(tmp_path / "object.npz")
    np.savez(tmp_path / "other.npz", format=np.array("something"))
    with pytest.raises(DataError, match="kind"):
        lf.load_learning(tmp_path / "other.npz")


def test_a_file_that_is_no_archive_is_refused_without_advice_to_unpickle(tmp_path):
    path = tmp_path / "slice.tif"
    path.write_bytes(b"II*\x00" + bytes(64))
    with pytest.raises(DataError, match=r"slice\.tif: .*it is no \.npz archive") as caught:
        lf.load_learning(path)
    assert "pickle" not in str(caught.value)


def test_a_damaged_file_is_refused_or_read_but_never_a_traceback(tmp_path):
    path, zeros = tmp_path / "state.npz", np.zeros((4, 4), np.float32)
    state = dl.LearningState(zeros, np.zeros((1, 3)), zeros, zeros, 1, np.zeros(4), False)
    lf.save_learning(path, state)
    raw, refused = path.read_bytes(), 0
    for at in range(0, len(raw), 5):
        damaged = bytearray(raw)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            lf.load_learning(path)
        except DataError:
            refused += 1
    assert refused > len(raw) / 20  # most bytes are headers, or are covered by a checksum
