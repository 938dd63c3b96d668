"""The second half of the demonstration: a TXM slice sharpened with STEM of other sections."""

from __future__ import annotations

import json
import pathlib

from jaxmicro.app.enhance import report
from jaxmicro.app.enhance.files import write_sections
from jaxmicro.app.enhance.images import open_training
from jaxmicro.app.enhance.metrics import Metrics
from jaxmicro.app.enhance.run import enhance_all
from jaxmicro.app.enhance.spec import DictionaryTable, EnhanceVariant
from jaxmicro.app.enhance.training import EnhancePlan, train_for
from jaxmicro.app.output import run_record
from jaxmicro.app.progress import Stages
from jaxmicro.data.phantom_stem_txm import stem_txm
from jaxmicro.data.read import read_volume
from jaxmicro.dictionary.forward import Instruments

MODEL = EnhanceVariant(
    description="Coupled, small: one pass",
    dictionary=DictionaryTable(patch_size=8, atoms=128, patches=20_000, upscale=2),
)


def demo_enhance(folder: pathlib.Path, seed: int, size: int, stages: Stages) -> Metrics:
    """Write phantom, enhanced slice and report into `folder`; returns the row of metrics."""
    phantom = folder / "phantom"
    with stages.stage("sections"):
        scene = stem_txm(seed, shape=(size, size), n_stem=2)
        phantom.mkdir()
        write_sections(scene, phantom)
    volume = read_volume(phantom / "txm.tif")
    truth = read_volume(phantom / "truth.tif").slice(0)
    plan = EnhancePlan(
        train=open_training([str(phantom / f"stem_{i}.tif") for i in (0, 1)], None),
        recipe=MODEL.recipe(),
        instruments=Instruments(scene.psf_fwhm_nm, scene.train_fwhm_nm),
        evidence=False,
        seed=seed,
    )
    trained = train_for(volume, plan, stages)
    run = enhance_all([volume], [truth], trained, plan, folder, stages)
    record = run_record(["jaxmicro", "demo"], seed=seed, inputs={}, seconds=stages.seconds)
    figures = report.write(folder, run)
    report.write_report(folder / "report.html", run, figures, json.dumps(record, indent=2))
    return run.metrics[0]
