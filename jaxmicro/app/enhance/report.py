"""The page, the table and figures, and the terminal's words of an enhance run."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

from jaxmicro.app import page
from jaxmicro.app.enhance import figures
from jaxmicro.app.enhance.files import write_metrics
from jaxmicro.app.enhance.metrics import Metrics
from jaxmicro.app.enhance.run import EnhanceRun
from jaxmicro.app.enhance.verdict import verdict
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.dictionary.enhance import Dictionary

SLICES_SHOWN = 8


def write(folder: pathlib.Path, run: EnhanceRun, style: Style = SCREEN) -> dict[str, pathlib.Path]:
    """metrics.csv and the figures, which are returned by caption."""
    write_metrics(folder / "metrics.csv", run.metrics)
    return figures.all_figures(run, folder / "figures", style)


def write_report(
    path: pathlib.Path, run: EnhanceRun, drawn: Mapping[str, pathlib.Path], record: str
) -> None:
    """The page of an enhance run."""
    page.write_page(
        path,
        f"Enhanced {run.first.before.name}",
        [
            ("", page.table(("", ""), summary_rows(run))),
            ("Figures", "\n".join(page.figure(p, caption) for caption, p in drawn.items())),
            ("Metrics", _metrics_table(run)),
            ("This run", page.preformatted(record)),
        ],
        run.notes,
    )


def _metrics_table(run: EnhanceRun) -> str:
    """A row per figure that is known of any slice, a column per slice."""
    rows = [dataclasses.asdict(row) for row in run.metrics]
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    shown = rows[:SLICES_SHOWN]
    header = ["", *(str(number) for number in range(len(shown)))]
    return page.table(header, [[name, *(row[name] for row in shown)] for name in names])


def summary_rows(run: EnhanceRun) -> list[tuple[str, str]]:
    """What was done and found, as label and text."""
    d, row = run.dictionary, run.metrics[0]
    rows = [
        ("dictionary", _dictionary_text(d)),
        ("pixels", f"{d.pixel_size_nm:.4g} nm in, {d.result_pixel_nm:.4g} nm out"),
    ]
    if d.blur_fwhm_nm:
        rows.append(("blur", f"{d.blur_fwhm_nm:.3g} nm (FWHM) between the instruments"))
    rows += [
        ("noise", f"{row.noise_sd:.3g} grey values, neighbours correlate "
                  f"{row.noise_neighbour_correlation:.2f}"),
        ("residual", f"{_or_dash(row.residual_sd_over_noise)} of the noise, neighbours "
                     f"correlate {_or_dash(row.residual_neighbour_correlation)}"),
        ("edges", f"10 to 90 % in {_or_dash(row.edge_before_nm)} nm before, "
                  f"{_or_dash(row.edge_after_nm)} nm after"),
    ]  # fmt: skip
    rows += _evidence_rows(row)
    said = verdict(row, of_slice=run.trained.of_slice)
    return rows if said is None else [*rows, ("verdict", said)]


def _dictionary_text(dictionary: Dictionary) -> str:
    stage = dictionary.stages[0]
    if dictionary.variant == "coupled":
        rule = f"penalty {stage.penalty:g} noise standard deviations"
    else:
        rule = f"penalty {stage.penalty:g}" if stage.penalty else "coded to the noise level"
    return (
        f"{dictionary.variant}, {len(stage.coding)} atoms, patches of {stage.size} pixels, "
        f"{len(dictionary.stages)} pass(es), {rule}"
    )


def _evidence_rows(row: Metrics) -> list[tuple[str, str]]:
    """What was measured on the first slice alone or against a reference."""
    rows = []
    if row.half_data_before_nm is not None:
        rows.append(
            ("half data", f"halves agree down to {row.half_data_before_nm:.3g} nm before, "
                          f"{_or_dash(row.half_data_after_nm)} nm after (ring correlation 0.5)")
        )  # fmt: skip
    if row.control_correlation is not None:
        rows.append(
            ("control", f"a dictionary of scrambled images gives a result that correlates "
                        f"{row.control_correlation:.3f} and differs by "
                        f"{row.control_rms_over_noise:.2g} noise standard deviations")
        )  # fmt: skip
    if row.psnr_db is not None:
        rows.append(
            ("reference", f"PSNR {row.psnr_before_db:.2f} to {row.psnr_db:.2f} dB, SSIM "
                          f"{row.ssim_before:.3f} to {row.ssim:.3f}")
        )  # fmt: skip
    return rows


def summary(run: EnhanceRun) -> list[str]:
    return [f"{label:<11}{text}" for label, text in summary_rows(run)]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
