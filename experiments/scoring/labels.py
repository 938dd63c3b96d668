"""Scores of labels against the truth, shared by the experiments that correct or fit labels."""

import numpy as np


def visited(volume, pixels):
    """(t, n) values of a (t, y, x) array at the visited pixels of every frame."""
    rows, cols = np.asarray(pixels.rows), np.asarray(pixels.cols)
    if rows.ndim == 1:
        return volume[:, rows, cols]
    return volume[np.arange(len(volume))[:, None], rows, cols]


def overlap(found, real):
    """Intersection over union of two sets of pixels."""
    return np.sum(found & real) / np.sum(found | real)


def area_error(found, real):
    """Relative error of the area of all frames together, in %; `found` may be a probability."""
    return 100 * (found.sum() / real.sum() - 1)


def area_errors(found, real):
    """Relative error of the area of each frame with more than 20 pixels of foreground, in %."""
    some = real.sum(axis=-1) > 20
    return 100 * (found.sum(axis=-1)[some] / real.sum(axis=-1)[some] - 1)
