"""What people use today to find an object in a movie, each at its best: it is told the truth.

Every rival takes (t, y, x) grey values and a scene, and returns the (t, y, x) bool mask of the
object. What a user would turn by hand (the filter's sigma, the side of a threshold, which run of
classes is the object) is chosen for the whole movie such that the overlap with the truth (IoU) is
largest. Thresholds and mixtures are found frame by frame, as is usual.
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
ENOUGH = 8000  # pixels of a frame that a Gaussian mixture is fitted to


def filtered(images, sigma):
    """(t, y, x) float32 after a Gaussian filter of each frame."""
    return scipy.ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma))


def otsu(images, scene):
    """Gaussian filter and Otsu's threshold."""
    return _best(((_otsu_classes(filtered(images, s)), 2) for s in SIGMAS), scene)


def multi_otsu(images, scene):
    """Gaussian filter and multi-level Otsu, with the true number of classes but 4 at most."""
    k = min(len(scene.classes), MOST_CLASSES)
    return _best(((_multi_otsu_classes(filtered(images, s), k), k) for s in FEW_SIGMAS), scene)


def gaussian_mixture(images, scene):
    """Gaussian filter and scikit-learn's mixture, with the true number of classes."""
    k = len(scene.classes)
    return _best(((_mixture_classes(filtered(images, s), k), k) for s in FEW_SIGMAS), scene)


RIVALS = {"otsu": otsu, "multi_otsu": multi_otsu, "mixture": gaussian_mixture}


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


def _otsu_classes(images):
    return np.stack([f > skimage.filters.threshold_otsu(f) for f in images]).astype(np.uint8)


def _multi_otsu_classes(images, k):
    found = [skimage.filters.threshold_multiotsu(f, classes=k, nbins=128) for f in images]
    return np.stack([np.digitize(f, cuts) for f, cuts in zip(images, found, strict=True)])


def _mixture_classes(images, k):
    """Classes by increasing mean."""
    out = np.empty(images.shape, np.uint8)
    for frame, classes in zip(images, out, strict=True):
        grey = frame.reshape(-1, 1).astype(float)
        some = np.random.default_rng(0).permutation(len(grey))[:ENOUGH]
        mixture = sklearn.mixture.GaussianMixture(k, random_state=0, max_iter=300)
        with warnings.catch_warnings():  # that it has not converged is the rival's result
            warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
            mixture.fit(grey[some])
        rank = np.argsort(np.argsort(mixture.means_[:, 0]))
        classes[:] = rank[mixture.predict(grey)].reshape(frame.shape)
    return out


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
