"""The second half of the demonstration: a TXM slice sharpened with STEM of other sections."""

from __future__ import annotations

import pathlib
from typing import Any

from jaxmicro.app.enhance import report
from jaxmicro.app.enhance.run import EnhanceRun, apply_to, learn_from, open_slices, open_training
from jaxmicro.app.enhance.spec import DictionaryTable, EnhanceVariant
from jaxmicro.app.output import run_record
from jaxmicro.app.progress import Stages
from jaxmicro.data.phantom_stem_txm import stem_txm
from jaxmicro.data.read import read_volume

MODEL = EnhanceVariant(
    description="Coupled, small: one pass",
    dictionary=DictionaryTable(patch_size=8, atoms=128, patches=20_000, upscale=2),
)


def demo_enhance(folder: pathlib.Path, seed: int, size: int, stages: Stages) -> dict[str, Any]:
    """Write phantom, enhanced slice and report into `folder`; returns the row of metrics."""
    with stages.stage("sections"):
        scene = stem_txm(seed, shape=(size, size), n_stem=2)
        (folder / "phantom").mkdir()
        report.write_sections(scene, folder / "phantom")
    train = open_training([str(folder / "phantom" / f"stem_{i}.tif") for i in (0, 1)], None)
    slices = open_slices(str(folder / "phantom" / "txm.tif"), None)
    truth = read_volume(folder / "phantom" / "truth.tif").slice(0)
    recipe = MODEL.recipe()
    options: dict[str, Any] = {
        "psf_fwhm_nm": scene.psf_fwhm_nm,
        "train_fwhm_nm": scene.train_fwhm_nm,
        "invert": False,
    }
    dictionary, learned, notes = learn_from(
        train, slices, recipe, **options, mask=None, start=None, seed=seed, stages=stages
    )
    run = EnhanceRun(dictionary, learned, recipe, [], None, None, None, notes)
    pairs = apply_to(
        slices,
        run,
        mask=None,
        stride=1,
        references=[truth],
        evidence=False,
        train=train,
        build_options=options,
        seed=seed,
        stages=stages,
    )
    report.write_slices(folder, pairs, slices, dictionary, single=True)
    record = run_record(["jaxmicro", "demo"], seed=seed, inputs={}, seconds=stages.seconds)
    report.write_all(folder, run, record)
    return run.rows[0]
