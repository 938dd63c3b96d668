"""`jaxmicro enhance` and `jaxmicro phantom stem-txm`."""

from __future__ import annotations

import pathlib
import time
from typing import Annotated, Any, Literal

import typer

from jaxmicro.app.cli.common import Force, Out, Seed, command_line, console, reported
from jaxmicro.errors import UsageError

Train = Annotated[
    list[str] | None, typer.Option(help="Image to learn from (STEM); may be repeated.")
]
Apply = Annotated[
    list[str], typer.Option(help="Slice or volume to enhance (TXM); may be repeated.")
]


@reported
def enhance(
    apply: Apply,
    out: Out,
    train: Train = None,
    dictionary: Annotated[
        pathlib.Path | None,
        typer.Option(help="dictionary.npz learned earlier, instead of --train."),
    ] = None,
    train_pixel_size: Annotated[
        str | None, typer.Option(help='Pixel pitch of the training images, e.g. "15 nm".')
    ] = None,
    apply_pixel_size: Annotated[
        str | None, typer.Option(help='Pixel pitch of the slices, e.g. "26.9 nm".')
    ] = None,
    psf_fwhm: Annotated[
        str | None, typer.Option(help='Resolution of the slices, e.g. "60 nm"; else estimated.')
    ] = None,
    train_fwhm: Annotated[
        str | None, typer.Option(help='Resolution of the training images, e.g. "15 nm".')
    ] = None,
    patch_size: Annotated[int | None, typer.Option(help="Pixels of a slice a patch side.")] = None,
    atoms: Annotated[int | None, typer.Option(help="Atoms in the dictionary.")] = None,
    penalty: Annotated[
        str | None, typer.Option(help="auto (from the noise) or a number above 0.")
    ] = None,
    upscale: Annotated[
        int | None, typer.Option(min=1, max=8, help="Result pixels per slice pixel.")
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Step between patches, in pixels.")] = 1,
    model: Annotated[pathlib.Path | None, typer.Option(help="Model file (TOML).")] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Truth of a slice, for PSNR and SSIM; one per slice.")
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="Image, nonzero where the slices are usable.")
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="The training contrast is reversed.")
    ] = False,
    evidence: Annotated[
        bool, typer.Option(help="Half-data resolution and a control dictionary, first slice.")
    ] = True,
    resume: Annotated[
        pathlib.Path | None, typer.Option(help="learning.npz of an earlier run to go on from.")
    ] = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Sharpen TXM slices with a dictionary learned from STEM images; no registration needed."""
    from jaxmicro.app import options, output, spec
    from jaxmicro.app.enhance import report
    from jaxmicro.app.enhance import run as job
    from jaxmicro.app.enhance.spec import EnhanceVariant
    from jaxmicro.app.progress import Stages
    from jaxmicro.data.read import read_image, sha256
    from jaxmicro.dictionary.dictionary_file import load_dictionary, save_dictionary
    from jaxmicro.dictionary.learn import load_learning, save_learning

    began = time.perf_counter()
    output.check_target(out, force)
    if (dictionary is None) == (not train):
        raise UsageError("give either --train IMAGE or --dictionary FILE, one of the two")
    if dictionary is not None:
        _only_with_train(locals())
    variant = spec.load(model, EnhanceVariant) if model is not None else EnhanceVariant()
    variant = variant.with_options(
        patch_size=patch_size, atoms=atoms, upscale=upscale, penalty=_penalty(penalty)
    )
    lengths = {
        name: options.length_nm(text, option)
        for name, text, option in (
            ("train", train_pixel_size, "--train-pixel-size"),
            ("apply", apply_pixel_size, "--apply-pixel-size"),
            ("psf", psf_fwhm, "--psf-fwhm"),
            ("train_fwhm", train_fwhm, "--train-fwhm"),
        )
    }
    terminal = console()
    stages = Stages(terminal)
    with stages.stage("open"):
        sets = [job.open_slices(source, lengths["apply"]) for source in apply]
        training = job.open_training(train or (), lengths["train"])
        good = None if mask is None else read_image(mask).values > 0
        references = [read_image(r) for r in reference or ()]
        job.check_references(reference or (), sum(len(s) for s in sets))
    build: dict[str, Any] = {
        "psf_fwhm_nm": lengths["psf"],
        "train_fwhm_nm": lengths["train_fwhm"],
        "invert": invert,
    }
    if dictionary is not None:
        taught, learned, recipe = load_dictionary(dictionary), None, None
        notes: list[str] = []
        if patch_size is not None and patch_size != taught.patch_size:
            raise UsageError(
                f"--patch-size {patch_size} contradicts {dictionary}, whose patches are "
                f"{taught.patch_size} pixels; leave the option out"
            )
    else:
        recipe = variant.recipe()
        taught, learned, notes = job.learn_from(
            training, sets[0], recipe, **build, mask=good, seed=seed, stages=stages,
            start=None if resume is None else load_learning(resume),
        )  # fmt: skip
    run = job.EnhanceRun(taught, learned, recipe, [], None, None, None, notes)
    with output.new_folder(out, force) as folder:
        done = 0
        for slices in sets:
            pairs = job.apply_to(
                slices, run, mask=good, stride=stride, references=references[done:],
                evidence=evidence and done == 0, train=training, build_options=build, seed=seed,
                stages=stages,
            )  # fmt: skip
            report.write_slices(folder, pairs, slices, taught, single=len(sets) == 1)
            done += len(slices)
        save_dictionary(folder / "dictionary.npz", taught)
        if learned is not None and recipe is not None:
            save_learning(folder / "learning.npz", learned)
            (folder / "model.toml").write_text(variant.to_toml(), encoding="utf-8")
        sources = [*apply, *(train or ()), *(reference or ()), *([mask] if mask else [])]
        inputs = {source: sha256(source) for source in sources}
        if dictionary is not None:
            inputs[str(dictionary)] = sha256(str(dictionary))
        stages.seconds["total"] = time.perf_counter() - began
        record = output.run_record(command_line(), seed=seed, inputs=inputs, seconds=stages.seconds)
        output.write_json(folder / "run.json", record)
        report.write_all(folder, run, record)
    for note in run.notes:
        terminal.print(f"note: {note}")
    for line in report.summary(run):
        terminal.print(line)
    terminal.print(f"wrote {out} in {time.perf_counter() - began:.1f} s; open {out}/report.html")


def _only_with_train(given: dict[str, Any]) -> None:
    """With --dictionary the options of the learning would be ignored: refuse them."""
    plain = {
        "train_pixel_size": "--train-pixel-size",
        "psf_fwhm": "--psf-fwhm",
        "train_fwhm": "--train-fwhm",
        "atoms": "--atoms",
        "penalty": "--penalty",
        "upscale": "--upscale",
        "model": "--model",
        "resume": "--resume",
    }
    named = [option for name, option in plain.items() if given[name] is not None]
    named += ["--invert"] if given["invert"] else []
    if named:
        raise UsageError(
            f"{', '.join(named)}: settled when the dictionary was learned; "
            "leave out with --dictionary"
        )


def _penalty(text: str | None) -> float | Literal["auto"] | None:
    if text is None or text.strip().lower() == "auto":
        return None if text is None else "auto"
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UsageError(f"--penalty {text!r} is not allowed; give auto or a number above 0")
    return value


@reported
def stem_txm(
    out: Out,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns of a TXM slice.")] = 320,
    n_slices: Annotated[int, typer.Option("--n-slices", min=1, help="TXM slices.")] = 1,
    noise: Annotated[float, typer.Option(min=0.0, help="Noise, grey range 0 to 1.")] = 0.05,
    force: Force = False,
) -> None:
    """Cathode particles: stem_*.tif (15 nm, clean), txm.tif (60 nm, noisy), truth.tif."""
    from jaxmicro.app import output
    from jaxmicro.app.enhance.report import write_sections
    from jaxmicro.data import phantom_stem_txm

    output.check_target(out, force)
    scene = phantom_stem_txm.stem_txm(seed, shape=(size, size), n_slices=n_slices, noise_sd=noise)
    with output.new_folder(out, force) as folder:
        names = write_sections(scene, folder)
    console().print(f"wrote {out}: {', '.join(names)}")
