"""The page of a study."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from jaxmicro.app import page
from jaxmicro.app.study.files import summary_table
from jaxmicro.app.study.run import Study

ABOUT = (
    "Each rate was sampled many times over, and each sample measured by the plan. Bias is the mean "
    "error against the curve that the same plan gives from all pixels, width the distance from the "
    "10th to the 90th percentile, both averaged over the frames; percentages are of the mean {of}. "
    "cover80 is how many of the 80 % intervals hold that curve, failed_percent how many fits gave "
    "no area that may be used{true}."
)
TRUE = "; columns that begin with true_ are against the true curve"


def write_report(
    path: pathlib.Path, study: Study, figures: Mapping[str, pathlib.Path], record: str
) -> None:
    """Table, figures, models and how the study was run."""
    table = summary_table(study)
    known = study.truth is not None
    about = ABOUT.format(of="true area" if known else "area", true=TRUE if known else "")
    models = [
        (f"Plan {plan.name}", page.preformatted(plan.variant.to_toml())) for plan in study.plans
    ]
    page.write_page(
        path,
        f"Sub-sampling study of {study.movie.name}",
        [
            ("", f"<p>{about}</p>"),
            ("Bias, width and coverage", page.table(list(table.columns), table.values.tolist())),
            ("Figures", "\n".join(page.figure(p, caption) for caption, p in figures.items())),
            *models,
            ("This run", page.preformatted(record)),
        ],
        study.notes,
    )
