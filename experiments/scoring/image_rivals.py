"""What slices are denoised and deblurred with today, each with a range of its parameter."""

import importlib.util
import math

import jax
import numpy as np

from jaxmicro.data.phantom_stem_txm import correlated_noise
from jaxmicro.dictionary.forward import Forward
from jaxmicro.dictionary.resolution import psnr


def have(module: str, package: str) -> bool:
    if importlib.util.find_spec(module) is not None:
        return True
    print(f"{module} is missing, its rows are left out: pip install {package}")
    return False


def onto(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cubic interpolation onto the grid of the truth."""
    return np.asarray(jax.image.resize(values.astype(np.float32), shape, "cubic"))


def richardson_lucy(values, blur, steps):
    """What each of `steps` multiplicative updates makes of an image."""
    pad, out = 24, []
    seen = np.pad(np.clip(values, 1e-3, None), pad, mode="reflect")
    estimate = seen.copy()
    for _ in range(steps):
        estimate = estimate * blur.apply(seen / np.maximum(blur.apply(estimate), 1e-4))
        out.append(estimate[pad:-pad, pad:-pad])
    return out


def give_trapz():
    """bm3d 4.0.3 and bm4d 4.2.5 ask NumPy for a name that 2.4 no longer has."""
    if not hasattr(np, "trapz"):
        setattr(np, "trapz", np.trapezoid)  # noqa: B010  # unknown to the checker


def bm3d_of(values, noise):
    import bm3d

    give_trapz()
    return bm3d.bm3d(values, noise)


def sklearn_atoms(train, size=8, k=256):
    """scikit-learn's online dictionary of the training images' patches; None without it."""
    if not have("sklearn", "scikit-learn"):
        return None
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.feature_extraction.image import extract_patches_2d

    options = {"max_patches": 8000, "random_state": 0}
    patches = np.concatenate([extract_patches_2d(t, (size, size), **options) for t in train])
    patches = patches.reshape(-1, size * size)
    patches = patches - patches.mean(axis=1, keepdims=True)
    learner = MiniBatchDictionaryLearning(k, alpha=0.1, batch_size=512, max_iter=5, random_state=0)
    atoms = learner.fit(patches / patches.std()).components_
    return atoms / np.maximum(np.linalg.norm(atoms, axis=1, keepdims=True), 1e-9)


def sklearn_pipeline(values, atoms, noise):
    """Code by orthogonal matching to the noise level, average the overlaps."""
    from sklearn.feature_extraction.image import extract_patches_2d, reconstruct_from_patches_2d
    from sklearn.linear_model import orthogonal_mp_gram

    size = math.isqrt(atoms.shape[1])
    noisy = extract_patches_2d(values, (size, size)).reshape(-1, size * size).astype(float)
    mean = noisy.mean(axis=1, keepdims=True)
    centred = noisy - mean
    codes = orthogonal_mp_gram(
        atoms @ atoms.T, atoms @ centred.T, tol=size * size * noise**2,
        norms_squared=np.sum(centred**2, axis=1),
    )  # fmt: skip
    rebuilt = codes.T @ atoms + mean
    return reconstruct_from_patches_2d(rebuilt.reshape(-1, size, size), values.shape)


def rivals(values, noise_sd, power, sd_fine, shape, atoms, full=True):
    """(name, results at each of its parameters on a grid of `shape`, forward model of them).

    `sd_fine` is the blur in pixels of that grid, the average over a pixel of the slice included.
    """
    n = shape[0] // values.shape[0]
    sharp = Forward(0.0, n)
    blur, seen = Forward(sd_fine), Forward(math.sqrt(sd_fine**2 - (n**2 - 1) / 12), n)

    def every(candidates):
        return [onto(c, shape) for c in candidates]

    yield "raw slice", every([values]), sharp
    if have("skimage", "scikit-image"):
        from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

        weights = [f * noise_sd for f in (0.3, 0.6, 1.0, 1.5, 2.5)]
        yield "TV", every(denoise_tv_chambolle(values, weight=w) for w in weights), sharp
        options = {"patch_size": 5, "patch_distance": 7, "sigma": noise_sd}
        reach = [f * noise_sd for f in (0.4, 0.6, 0.8, 1.0, 1.4)]
        found = every(denoise_nl_means(values, h=h, **options) for h in reach)
        yield "non-local means", found, sharp
    if full and have("bm3d", "bm3d"):
        for name, noise in (("white", noise_sd), ("spectrum", power * values.size)):
            clean = onto(bm3d_of(values, noise), shape)
            yield f"BM3D ({name})", [clean], sharp
            yield f"BM3D ({name}) + RL", richardson_lucy(clean, blur, 40), seen
    if full and atoms is not None:
        yield "scikit-learn", every([sklearn_pipeline(values, atoms, noise_sd)]), sharp


def nearest_to(truth, extent=1.0):
    """The candidate of the highest PSNR: what no user can choose."""
    return lambda found, _: max(found, key=lambda c: psnr(np.clip(c, -9, 9), truth, extent))


def discrepancy(values, noise_sd):
    """The candidate whose residual is nearest to the noise (Morozov): what a user can choose."""

    def gap(result, forward):
        return abs(np.log(np.std(values - forward.mirrored(result)) / noise_sd))

    return lambda found, forward: min(found, key=lambda c: gap(c, forward))


def picked(found, choose):
    """The result of each of `rivals`, its parameter by `choose(candidates, forward)`."""
    return {name: choose(results, forward) for name, results, forward in found}


def true_power(noise, shape, rng):
    """The spectrum that the phantoms' noise is drawn from; its mean is the variance."""
    draws = [np.fft.fft2(noise * correlated_noise(rng, shape)) for _ in range(30)]
    return np.mean(np.abs(draws) ** 2, axis=0) / (shape[0] * shape[1])
