"""The files of a dose plan, and its page."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from jaxmicro.app import page
from jaxmicro.app.dose.figures import error_by_rate
from jaxmicro.app.dose.run import Planned, sentences, table
from jaxmicro.app.style import SCREEN, Style

ABOUT = (
    "Each pattern was tried at several rates: the movie was sampled, each sample measured by the "
    "model below. se is the standard error that a run reports, over the frames (root mean square), "
    "error the difference from the areas of all pixels; where that is larger than chance explains, "
    "the plan and the figure go by it. The check has samples of its own."
)


def write(folder: pathlib.Path, planned: Planned, style: Style = SCREEN) -> dict[str, pathlib.Path]:
    """dose.csv, model.toml and the figure, returned by caption."""
    table(planned).to_csv(folder / "dose.csv", index=False, float_format="%.6g")
    (folder / "model.toml").write_text(planned.variant.to_toml(), encoding="utf-8")
    (folder / "figures").mkdir()
    path = folder / "figures" / "error_by_rate.png"
    return {"Standard error against the share of pixels": error_by_rate(planned, path, style)}


def write_report(
    path: pathlib.Path, planned: Planned, figures: Mapping[str, pathlib.Path], record: str
) -> None:
    found = table(planned)
    body = "".join(f"<p>{line}</p>" for line in sentences(planned))
    page.write_page(
        path,
        f"Dose for {planned.movie.name}",
        [
            (f"For a standard error of {planned.target.said}", body),
            ("", "\n".join(page.figure(p, caption) for caption, p in figures.items())),
            ("Rates that were tried", f"<p>{ABOUT}</p>"),
            ("", page.table(list(found.columns), found.values.tolist())),
            ("Model", page.preformatted(planned.variant.to_toml())),
            ("This run", page.preformatted(record)),
        ],
        planned.notes,
    )
