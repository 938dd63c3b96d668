"""The colours of figures and label maps: Okabe and Ito's, safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
NOT_VISITED, BACKGROUND, FOREGROUND = "#FFFFFF", "#8C9BA5", "#D55E00"
# Behind grey values: what was not visited must not look like a bright or a dark pixel.
NO_VALUE = "#56B4E9"


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of `#RRGGBB`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def table(colours: Mapping[int, str]) -> np.ndarray:
    """(3, 256) uint8 for ImageJ: the colour of each value, and black for all others."""
    out = np.zeros((3, 256), np.uint8)
    for value, colour in colours.items():
        out[:, value] = rgb(colour)
    return out


def ramp(n: int, colours: Mapping[int, str]) -> np.ndarray:
    """The same for the values 0 to n of a channel that is shown from 0 to n.

    ImageJ takes its colours from the 256 places between the ends of the display range.
    """
    places = np.rint(np.arange(256) * n / 255).astype(int)
    return table(colours)[:, places]
