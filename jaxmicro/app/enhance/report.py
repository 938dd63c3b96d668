"""What an enhance run writes besides its figures: stacks, metrics, the page; and phantoms."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxmicro.app import report
from jaxmicro.app.enhance import figures as plots
from jaxmicro.app.enhance.files import write_metrics, write_stack, write_two_stacks
from jaxmicro.app.enhance.run import EnhanceRun, Slices, safe_name
from jaxmicro.data.phantom_stem_txm import Sections
from jaxmicro.dictionary.enhance import Dictionary


def write_slices(
    folder: pathlib.Path,
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
    slices: Slices,
    dictionary: Dictionary,
    *,
    single: bool,
) -> None:
    """enhanced.tif and uncertainty.tif, or the same with the source's name where it is not one."""
    end = "" if single else f"_{safe_name(slices.volume.name)}"
    n_slices, height, width = slices.volume.shape
    n = dictionary.upscale
    write_two_stacks(
        folder,
        (f"enhanced{end}.tif", f"uncertainty{end}.tif"),
        pairs,
        (n_slices, height * n, width * n),
        dictionary.result_pixel_nm,
        slices.spacing_nm,
    )


def write_all(folder: pathlib.Path, run: EnhanceRun, record: dict[str, Any]) -> None:
    """metrics.csv, the figures and report.html."""
    write_metrics(folder / "metrics.csv", run.rows)
    figures = plots.all_figures(run, folder / "figures")
    name = run.sample.before.name if run.sample is not None else "slices"
    names = [k for k in run.rows[0] if any(row.get(k) is not None for row in run.rows)]
    shown = [[k, *(row.get(k) for row in run.rows[:8])] for k in names]
    report.write_page(
        folder / "report.html",
        f"Enhanced {name}",
        [
            ("", report.table(("", ""), summary_rows(run))),
            ("Figures", "\n".join(report.figure(p, caption) for caption, p in figures.items())),
            ("Metrics", report.table(["", *(str(i) for i in range(len(run.rows[:8])))], shown)),
            ("This run", report.preformatted(json.dumps(record, indent=2))),
        ],
        run.notes,
    )


def summary_rows(run: EnhanceRun) -> list[tuple[str, str]]:
    """What was done and found, as label and text."""
    d, row = run.dictionary, run.rows[0]
    stage = d.stages[0]
    rule = (
        f"penalty {stage.penalty:g} noise standard deviations"
        if d.variant == "coupled"
        else (f"penalty {stage.penalty:g}" if stage.penalty else "coded to the noise level")
    )
    text = [
        ("dictionary", f"{d.variant}, {len(stage.coding)} atoms, patches of {stage.size} pixels, "
                       f"{len(d.stages)} pass(es), {rule}"),
        ("pixels", f"{d.pixel_size_nm:.4g} nm in, {d.result_pixel_nm:.4g} nm out"),
        ("noise", f"{row['noise_sd']:.3g} grey values, neighbours correlate "
                  f"{row['noise_neighbour_correlation']:.2f}"),
        ("residual", f"{_or_dash(row['residual_sd_over_noise'])} of the noise, neighbours "
                     f"correlate {_or_dash(row['residual_neighbour_correlation'])}"),
        ("edges", f"10 to 90 % in {_or_dash(row['edge_before_nm'])} nm before, "
                  f"{_or_dash(row['edge_after_nm'])} nm after"),
    ]  # fmt: skip
    if d.blur_fwhm_nm:
        text.insert(2, ("blur", f"{d.blur_fwhm_nm:.3g} nm (FWHM) between the instruments"))
    if row.get("half_data_before_nm") is not None:
        text.append(
            ("half data", f"halves agree down to {row['half_data_before_nm']:.3g} nm before, "
                          f"{_or_dash(row['half_data_after_nm'])} nm after (ring correlation 0.5)")
        )  # fmt: skip
    if row.get("control_correlation") is not None:
        text.append(
            ("control", f"a dictionary of scrambled images gives a result that correlates "
                        f"{row['control_correlation']:.3f} and differs by "
                        f"{row['control_rms_over_noise']:.2g} noise standard deviations")
        )  # fmt: skip
    if row.get("psnr_db") is not None:
        text.append(
            ("reference", f"PSNR {row['psnr_before_db']:.2f} to {row['psnr_db']:.2f} dB, SSIM "
                          f"{row['ssim_before']:.3f} to {row['ssim']:.3f}")
        )  # fmt: skip
    return text


def summary(run: EnhanceRun) -> list[str]:
    return [f"{label:<11}{text}" for label, text in summary_rows(run)]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def write_sections(scene: Sections, folder: pathlib.Path) -> list[str]:
    """Calibrated TIFFs of a phantom, and scene.json with blur and noise; returns the names."""
    names = []
    for number, image in enumerate(scene.stem):
        names.append(f"stem_{number}.tif")
        _write(folder / names[-1], [image.values], image.pixel_size_nm)
    for name, images in (("txm.tif", scene.slices), ("truth.tif", scene.truth)):
        names.append(name)
        _write(folder / name, [i.values for i in images], images[0].pixel_size_nm)
    facts = {
        "psf_fwhm_nm": scene.psf_fwhm_nm,
        "train_fwhm_nm": scene.train_fwhm_nm,
        "noise_sd": scene.noise_sd,
    }
    (folder / "scene.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return [*names, "scene.json"]


def _write(path: pathlib.Path, values: list[np.ndarray], size: tuple[float, ...] | None) -> None:
    assert size is not None  # phantoms are calibrated
    shape = (len(values), *values[0].shape)
    write_stack(path, iter(values), shape, size[-1], None)
