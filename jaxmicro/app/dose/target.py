"""The standard error that is wanted, as a user says it: "0.1 um2", "0.05 um3", "300 px", "5 %"."""

from __future__ import annotations

import dataclasses
import re

from jaxmicro.errors import UsageError

UNITS = {"um2": 1.0, "nm2": 1e-6, "mm2": 1e6, "um3": 1.0, "nm3": 1e-9}


@dataclasses.dataclass(frozen=True)
class Target:
    """A number and its unit: um2, um3, px or % of the mean area; as said, for messages."""

    number: float
    unit: str
    said: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises UsageError for what is no area, volume or share."""
        plain = text.strip().replace("µ", "u").replace("μ", "u").replace("^", "")
        plain = plain.replace("²", "2").replace("³", "3")
        match = re.fullmatch(r"(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)\s*([a-zA-Z]+[23]?|%)", plain)
        unit = "" if match is None else match[2].lower()
        unit = {"pixels": "px", "pixel": "px", "percent": "%"}.get(unit, unit)
        if match is None or float(match[1]) <= 0 or unit not in (*UNITS, "px", "%"):
            raise UsageError(
                f"--target-se {text!r} is not understood; give a number above 0 with um2, um3, px "
                'or %, for example "0.1 um2"'
            )
        number = float(match[1]) * UNITS.get(unit, 1.0)
        return cls(number, {"nm2": "um2", "mm2": "um2", "nm3": "um3"}.get(unit, unit), text.strip())

    def in_pixels(
        self, pixel_area_um2: float | None, thickness_um: float | None, mean_area_px: float
    ) -> float:
        """The same as an area in pixels.

        Raises:
          UsageError: the unit needs a calibration, a thickness or an area that is not there.
        """
        if self.unit == "px":
            return self.number
        if self.unit == "%":
            if not mean_area_px > 0:
                raise UsageError(
                    f"--target-se {self.said} is a share of the mean area, and no foreground was "
                    "found; give an area, such as 300 px"
                )
            return self.number / 100 * mean_area_px
        if pixel_area_um2 is None:
            raise UsageError(
                f"--target-se {self.said} needs a pixel size; give --pixel-size, or a target in px"
            )
        if self.unit == "um2":
            return self.number / pixel_area_um2
        if thickness_um is None:
            raise UsageError(f"--target-se {self.said} needs a thickness; give --thickness")
        return self.number / (pixel_area_um2 * thickness_um)
