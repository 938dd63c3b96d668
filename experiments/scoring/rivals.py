"""What people use today to find an object in a movie, each at its best: it is told the truth.

Every rival takes (t, y, x) grey values and a scene, and returns the (t, y, x) bool mask of the
object. What a user would turn by hand (the filter's sigma, the side of a threshold, which run of
classes is the object, whether thresholds and mixtures are found frame by frame or once for the
whole stack) is chosen such that the overlap of the movie with the truth (IoU) is largest.
"""

import warnings

import numpy as np
import scipy.ndimage
import skimage.filters
import skimage.restoration
import sklearn.exceptions
import sklearn.mixture

SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)  # of the Gaussian filter, in pixels
FEW_SIGMAS = (0.0, 1.0, 2.0, 3.5)  # for what takes longer
MOST_CLASSES = 4  # of multi-Otsu, whose time grows as 256 to the number of thresholds
ENOUGH = 8000  # pixels that a Gaussian mixture is fitted to
BINS = 256  # grey levels between which a threshold is set by hand


def filtered(images, sigma):
    """(t, y, x) float32 after a Gaussian filter of each frame."""
    return scipy.ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma))


def by_hand(images, scene):
    """Gaussian filter and a band of greys set by hand for the whole movie: the best there is."""
    real, best, mask = scene.foreground_mask, -1.0, None
    for sigma in SIGMAS:
        greys = filtered(images, sigma)
        edges = np.linspace(greys.min(), np.nextafter(greys.max(), np.inf), BINS + 1)
        level = np.clip(np.digitize(greys, edges) - 1, 0, BINS - 1)
        below = np.cumsum([0, *np.bincount(level.ravel(), minlength=BINS)])
        hits = np.cumsum([0, *np.bincount(level[real], minlength=BINS)])
        both = hits[None] - hits[:, None]  # from level i up to, not including, level j
        score = both / np.maximum(real.sum() + below[None] - below[:, None] - both, 1)
        first, last = np.unravel_index(np.argmax(score), score.shape)
        if score[first, last] > best:
            best, mask = score[first, last], (level >= first) & (level < last)
    return mask


def otsu(images, scene):
    """Gaussian filter and Otsu's threshold."""
    return _best(_tried(images, SIGMAS, _otsu_classes, 2), scene)


def multi_otsu(images, scene):
    """Gaussian filter and multi-level Otsu, with the true number of classes but 4 at most."""
    k = min(len(scene.classes), MOST_CLASSES)
    return _best(_tried(images, FEW_SIGMAS, _multi_otsu_classes, k), scene)


def gaussian_mixture(images, scene):
    """Gaussian filter and scikit-learn's mixture, with the true number of classes."""
    return _best(_tried(images, FEW_SIGMAS, _mixture_classes, len(scene.classes)), scene)


RIVALS = {
    "by_hand": by_hand,
    "otsu": otsu,
    "multi_otsu": multi_otsu,
    "mixture": gaussian_mixture,
}


def _tried(images, sigmas, classify, k):
    """Pairs (classes, their number): each filter, frame by frame and over the whole stack."""
    for sigma in sigmas:
        smooth = filtered(images, sigma)
        yield np.stack([classify(frame, k) for frame in smooth]), k
        yield classify(smooth.reshape(-1, smooth.shape[-1]), k).reshape(smooth.shape), k


def _best(tried, scene):
    """From pairs (classes, their number) to the run of classes that overlaps best."""
    real, best, mask = scene.foreground_mask, -1.0, None
    for classes, k in tried:
        for first in range(k):
            for last in range(first, k if first else k - 1):  # not all of them
                found = (classes >= first) & (classes <= last)
                score = np.sum(found & real) / np.sum(found | real)
                if score > best:
                    best, mask = score, found
    return mask


def _otsu_classes(frame, k):
    return (frame > skimage.filters.threshold_otsu(frame)).astype(np.uint8)


def _multi_otsu_classes(frame, k):
    return np.digitize(frame, skimage.filters.threshold_multiotsu(frame, classes=k, nbins=128))


def _mixture_classes(frame, k):
    """Classes by increasing mean."""
    grey = frame.reshape(-1, 1).astype(float)
    some = np.random.default_rng(0).permutation(len(grey))[:ENOUGH]
    mixture = sklearn.mixture.GaussianMixture(k, random_state=0, max_iter=300)
    with warnings.catch_warnings():  # that it has not converged is the rival's result
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        mixture.fit(grey[some])
    rank = np.argsort(np.argsort(mixture.means_[:, 0])).astype(np.uint8)
    return rank[mixture.predict(grey)].reshape(frame.shape)


def inpainted(images, seen):
    """(t, y, x) float32: each frame with what was not visited filled in by scikit-image.

    Biharmonic in-painting from the (t, y, x) bool visited pixels; 1 to 2 s for a frame of 50 000
    pixels at 10 and at 1 %.
    """
    filled = []
    for frame, visited in zip(images, seen, strict=True):
        known = np.where(visited, frame, 0).astype(np.float32)
        filled.append(skimage.restoration.inpaint_biharmonic(known, ~visited))
    return np.stack(filled).astype(np.float32)
