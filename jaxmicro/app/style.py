"""What figures are drawn for: a screen, or a column of a paper."""

from __future__ import annotations

import dataclasses

from jaxmicro.errors import UsageError

WIDTHS_MM = {"one": 89.0, "two": 183.0}  # columns of a page
SUFFIXES = ("png", "svg", "pdf")


@dataclasses.dataclass(frozen=True)
class Style:
    """File format (`png`, `svg` or `pdf`) and width; without a width as a screen shows it best."""

    suffix: str = "png"
    width_mm: float | None = None

    @classmethod
    def asked(cls, suffix: str, width: str | None) -> Style:
        """From the words of the command line; svg and pdf are two columns wide if nothing is said.

        Raises:
          UsageError: another format or width.
        """
        if suffix not in SUFFIXES:
            raise UsageError(f"--figures {suffix!r} is not known; use {', '.join(SUFFIXES)}")
        if width is not None and width not in WIDTHS_MM:
            raise UsageError(
                f"--figure-width {width!r} is not known; use one (89 mm) or two (183 mm) columns"
            )
        if width is None and suffix != "png":
            width = "two"
        return cls(suffix, None if width is None else WIDTHS_MM[width])

    @property
    def narrow(self) -> bool:
        """Whether panels stand below each other."""
        return self.width_mm is not None and self.width_mm < 120

    def panels(self, n: int) -> tuple[int, int]:
        """Rows and columns of `n` panels."""
        return (n, 1) if self.narrow else (1, n)


SCREEN = Style()
