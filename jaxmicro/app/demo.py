"""The demonstration: a phantom whose truth is known, quantified at 10 % and at 1 %."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd

from jaxmicro.app import page
from jaxmicro.app.enhance.demo import demo_enhance
from jaxmicro.app.phantoms import write_operando
from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify import figures
from jaxmicro.app.quantify.files import write_growth
from jaxmicro.app.quantify.report import summary_rows
from jaxmicro.app.quantify.run import Quantified, quantify
from jaxmicro.app.quantify.spec import Correction, Foreground, Mixture, Variant
from jaxmicro.data.phantom import operando
from jaxmicro.data.read import read_movie
from jaxmicro.growth.plan import Sampling

RATES = (0.10, 0.01)
MODEL = Variant(
    description="Four classes whose means and sds all frames share; linear and xy trend.",
    mixture=Mixture(classes=4, trend="x + y + x:y", share=["means", "sds"]),
    foreground=Foreground(rule="brightest"),
    correction=Correction(radius=5, threshold=0.05),
)


def demo(
    folder: pathlib.Path, seed: int, shape: tuple[int, int, int], stages: Stages
) -> pd.DataFrame:
    """Write phantom, both runs and one report into `folder`; returns errors against the truth."""
    with stages.stage("phantom", shape[0]) as advance:
        scene = operando(seed, shape=shape)
        (folder / "phantom").mkdir()
        write_operando(scene, folder / "phantom")
        advance(shape[0])
    movie = read_movie(folder / "phantom" / "movie.tif")
    runs: dict[str, Quantified] = {}
    rows = []
    for rate in RATES:
        name = f"{100 * rate:g} % of the pixels"
        run = quantify(
            movie,
            MODEL,
            Sampling(rate, seed=seed),
            thickness_um=scene.thickness_um,
            stages=stages,
        )
        runs[name] = run
        rows.append(_against_truth(name, run, scene.area_um2))
        target = folder / f"rate_{100 * rate:g}_percent"
        target.mkdir()
        write_growth(target / "growth.csv", run.growth)
        figures.all_figures(run, target / "figures")
    table = pd.DataFrame(rows)
    table.to_csv(folder / "errors.csv", index=False, float_format="%.4g")
    first = next(iter(runs.values()))
    curve = figures.growth_curve(
        first.growth,
        folder / "growth.png",
        truth=scene.area_um2,
        others={name: run.growth for name, run in runs.items()},
    )
    sections = [
        ("Growth against the truth", page.figure(curve, "Area of the deposit and the truth.")),
        ("Errors over the movie", page.table(list(table.columns), table.values.tolist())),
    ]
    for name, rate in zip(runs, RATES, strict=True):
        images = sorted((folder / f"rate_{100 * rate:g}_percent" / "figures").glob("*.png"))
        rows_html = page.table(("", ""), summary_rows(runs[name]))
        shown = "\n".join(page.figure(p, p.stem) for p in images if p.stem != "growth")
        sections.append((f"At {name}", rows_html + shown))
    target = folder / "enhance"
    target.mkdir()
    row = demo_enhance(target, seed, max(72, min(128, shape[1] // 4)), stages)
    text = (
        f"A slice sharpened with STEM of other sections, in enhance/: PSNR "
        f"{row.psnr_before_db:.1f} to {row.psnr_db:.1f} dB, SSIM {row.ssim_before:.2f} to "
        f"{row.ssim:.2f}."
    )
    picture = target / "figures" / "before_after.png"
    sections.append(("Enhancement", page.figure(picture, text)))
    page.write_page(folder / "report.html", "jaxmicro demo: both jobs on phantoms", sections)
    return table


def _against_truth(name: str, run: Quantified, truth_um2: np.ndarray) -> dict[str, object]:
    area, se = run.growth.area_um2, run.growth.area_um2_se
    assert area is not None  # the phantom is calibrated
    assert se is not None
    error = area - truth_um2
    return {
        "sampling": name,
        "mean_true_um2": float(truth_um2.mean()),
        "bias_um2": float(error.mean()),
        "rms_error_um2": float(np.sqrt(np.mean(error**2))),
        "mean_se_um2": float(se.mean()),
        "within_2_se": f"{int(np.sum(np.abs(error) <= 2 * se))} of {error.size}",
    }
