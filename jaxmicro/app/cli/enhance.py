"""`jaxmicro enhance` and `jaxmicro phantom stem-txm`."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jaxmicro.app.cli.common import (
    DryRun,
    Figures,
    FigureWidth,
    Force,
    Job,
    Out,
    Seed,
    console,
    reported,
)
from jaxmicro.errors import UsageError

if TYPE_CHECKING:
    from jaxmicro.app.enhance.finished import Finished
    from jaxmicro.app.enhance.spec import EnhanceVariant

Train = Annotated[
    list[str] | None, typer.Option(help="Image to learn from (STEM); may be repeated.")
]
Apply = Annotated[
    list[str], typer.Option(help="Slice or volume to enhance (TXM); may be repeated.")
]
DictionaryFile = Annotated[
    pathlib.Path | None, typer.Option(help="dictionary.npz learned earlier, instead of --train.")
]
TrainPixelSize = Annotated[
    str | None, typer.Option(help='Pixel pitch of the training images, e.g. "15 nm".')
]
ApplyPixelSize = Annotated[
    str | None, typer.Option(help='Pixel pitch of the slices, e.g. "26.9 nm".')
]
PsfFwhm = Annotated[
    str | None, typer.Option(help='Resolution of the slices, e.g. "60 nm"; else estimated.')
]
TrainFwhm = Annotated[
    str | None, typer.Option(help='Resolution of the training images, e.g. "15 nm".')
]
PatchSize = Annotated[int | None, typer.Option(help="Pixels of a slice a patch side.")]
Atoms = Annotated[int | None, typer.Option(help="Atoms in the dictionary.")]
Penalty = Annotated[str | None, typer.Option(help="auto (from the noise) or a number above 0.")]
Upscale = Annotated[int | None, typer.Option(min=1, max=8, help="Result pixels per slice pixel.")]
Stride = Annotated[int, typer.Option(min=1, help="Step between patches, in pixels.")]
Depth = Annotated[
    str | None,
    typer.Option(help="Weight of neighbouring slices: auto, or 0 (each alone) to 1."),
]
ModelFile = Annotated[pathlib.Path | None, typer.Option(help="Model file (TOML) or name.")]
Reference = Annotated[
    list[str] | None, typer.Option(help="Truth of a slice, for PSNR and SSIM; one per slice.")
]
Region = Annotated[
    str | None,
    typer.Option(help="Where to look: .roi (ImageJ), .csv (napari shapes), or an image."),
]
OldMask = Annotated[str | None, typer.Option("--mask", help="Old name of --roi.", hidden=True)]
Crop = Annotated[str | None, typer.Option(help="Part of each slice, to try settings: Y0:Y1,X0:X1.")]
Frames = Annotated[str | None, typer.Option(help="Slices A:B of each volume.")]
Invert = Annotated[bool, typer.Option("--invert", help="The training contrast is reversed.")]
NoEvidence = Annotated[
    bool,
    typer.Option(
        "--no-evidence", help="Leave out half-data resolution and the control dictionary."
    ),
]
Resume = Annotated[
    pathlib.Path | None, typer.Option(help="learning.npz of an earlier run to go on from.")
]


@reported
def enhance(
    apply: Apply,
    out: Out,
    train: Train = None,
    dictionary: DictionaryFile = None,
    train_pixel_size: TrainPixelSize = None,
    apply_pixel_size: ApplyPixelSize = None,
    psf_fwhm: PsfFwhm = None,
    train_fwhm: TrainFwhm = None,
    patch_size: PatchSize = None,
    atoms: Atoms = None,
    penalty: Penalty = None,
    upscale: Upscale = None,
    stride: Stride = 1,
    depth: Depth = None,
    model: ModelFile = None,
    reference: Reference = None,
    roi: Region = None,
    crop: Crop = None,
    frames: Frames = None,
    mask: OldMask = None,
    invert: Invert = False,
    no_evidence: NoEvidence = False,
    resume: Resume = None,
    hspy: Annotated[
        bool, typer.Option("--hspy", help="Results as .hspy too, for HyperSpy.")
    ] = False,
    figures: Figures = "png",
    figure_width: FigureWidth = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Sharpen TXM slices with a dictionary learned from STEM images; no registration needed."""
    given = dict(locals())
    from jaxmicro.app import options
    from jaxmicro.app.enhance import images, report, run, training
    from jaxmicro.app.enhance.choose import default_variant
    from jaxmicro.app.style import Style
    from jaxmicro.dictionary.forward import Instruments

    job = Job.begin(out, force)
    style = Style.asked(figures, figure_width)
    _one_source_of_atoms(given)
    if roi is not None and mask is not None:
        raise UsageError("--mask is the old name of --roi; give one of them")
    roi = roi or mask
    said = {"patch_size": patch_size, "atoms": atoms, "upscale": upscale}
    variant = _variant(model, penalty=penalty, **said)
    pitches = [
        options.length_nm(train_pixel_size, "--train-pixel-size"),
        options.length_nm(apply_pixel_size, "--apply-pixel-size"),
    ]
    instruments = Instruments(
        options.length_nm(psf_fwhm, "--psf-fwhm"),
        options.length_nm(train_fwhm, "--train-fwhm"),
        invert,
    )
    with job.stages.stage("open"):
        whole = images.open_volumes(apply, pitches[1])
        box = None if crop is None else options.box(crop, "--crop")
        volumes = images.narrow(whole, frames, box)
        learned_from = images.open_training(train or (), pitches[0])
        if model is None and learned_from:
            default = default_variant(learned_from, volumes[0].slice(0), instruments.psf_fwhm_nm)
            variant = default.with_options(penalty=_penalty(penalty), **said)
        automatic = model is None and dictionary is None
        weight, told = images.depth_weight(depth, volumes[0], automatic)
        plan = training.EnhancePlan(
            train=learned_from, recipe=None if dictionary is not None else variant.recipe(),
            instruments=instruments, automatic=automatic, depth=weight,
            mask=None if roi is None else images.open_roi(roi, whole, box),
            stride=stride, evidence=not no_evidence, seed=seed,
        )  # fmt: skip
        references = images.open_references(
            reference or (), sum(len(v) for v in volumes), box, whole[0].shape[1:]
        )
    if dry_run:
        from jaxmicro.app.enhance.forecast import forecast

        job.say_forecast(forecast(volumes, plan, job.stages, dictionary))
        return
    inputs = [*apply, *(train or ()), *(reference or ())]
    inputs += [str(f) for f in (roi, dictionary, resume) if f is not None]
    kept = _kept(job, given, inputs) if sum(len(v) for v in volumes) > 1 else None
    found: list[run.EnhanceRun] = []

    def write(folder: pathlib.Path) -> dict[str, pathlib.Path]:
        done = run.enhance_all(
            volumes, references, trained, plan, folder, job.stages, hspy=hspy, finished=kept
        )
        found.append(done)
        training.save_trained(folder, trained)
        if dictionary is None:
            text = variant.with_passes(len(trained.dictionary.stages)).to_toml()
            (folder / "model.toml").write_text(text, encoding="utf-8")
        return report.write(folder, found[0], style)

    with _resumable(kept):
        trained = training.trained_for(
            volumes[0], plan, job.stages, dictionary=dictionary, patch_size=patch_size,
            resume=resume, finished=kept,
        )  # fmt: skip
        job.finish(
            inputs,
            seed,
            write,
            lambda path, drawn, record: report.write_report(path, found[0], drawn, record),
        )
    job.say_notes([*([told] if told else []), *found[0].notes])
    for line in report.summary(found[0]):
        job.terminal.print(line)
    job.say_written()


# What changes how a result is written, and not the result.
_OF_WRITING = ("out", "force", "hspy", "figures", "figure_width")


def _kept(job: Job, given: dict[str, Any], inputs: list[str]) -> Finished:
    """Where finished slices are kept; says what a run that was stopped left there."""
    import jaxmicro
    from jaxmicro.app.enhance.finished import Finished
    from jaxmicro.data.read import sha256

    settings = {name: str(value) for name, value in given.items() if name not in _OF_WRITING}
    hashes = {name: sha256(name) for name in inputs}
    kept = Finished.open(
        job.out, {"version": jaxmicro.__version__, **settings, "inputs": hashes}, job.force
    )
    if not kept.empty:
        job.terminal.print(
            f"going on with {kept.content} of a run that was stopped ({kept.folder})"
        )
    return kept


@contextlib.contextmanager
def _resumable(kept: Finished | None) -> Iterator[None]:
    """Remove what was kept when the run is whole; say where it is when the run is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if kept is None or kept.empty:
            raise
        raise KeyboardInterrupt(
            f"interrupted; {kept.content} are kept in {kept.folder}, and the same command goes on "
            "from there"
        ) from None
    finally:
        if kept is not None and kept.empty:
            kept.remove()
    if kept is not None:
        kept.remove()


def _one_source_of_atoms(given: dict[str, Any]) -> None:
    """Refuse what is neither learning nor a dictionary, or a dictionary with learning's options."""
    if (given["dictionary"] is None) == (not given["train"]):
        raise UsageError("give either --train IMAGE or --dictionary FILE, one of the two")
    if given["dictionary"] is None:
        return
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


def _variant(model: pathlib.Path | None, *, penalty: str | None, **given: Any) -> EnhanceVariant:
    """The model file, or the default, with options of the command line in its place."""
    from jaxmicro.app.enhance.spec import EnhanceVariant
    from jaxmicro.app.model_file import load_as

    variant = EnhanceVariant() if model is None else load_as(model, EnhanceVariant)
    return variant.with_options(**given, penalty=_penalty(penalty))


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
    n_slices: Annotated[
        int | None, typer.Option("--n-slices", min=1, help="TXM slices of different particles.")
    ] = None,
    slices: Annotated[
        int | None, typer.Option(min=2, help="Slices of one TXM volume, 30 nm apart.")
    ] = None,
    noise: Annotated[float, typer.Option(min=0.0, help="Noise, grey range 0 to 1.")] = 0.05,
    force: Force = False,
) -> None:
    """Cathode particles: stem_*.tif (15 nm, clean), txm.tif (60 nm, noisy), truth.tif."""
    from jaxmicro.app import output
    from jaxmicro.app.enhance.files import write_sections
    from jaxmicro.data import phantom_particles, phantom_stem_txm

    output.check_target(out, force)
    if slices is not None and n_slices is not None:
        raise UsageError("--n-slices asks for unrelated slices, --slices for a volume; give one")
    if slices is not None:
        scene = phantom_particles.particles(seed, size=size, n_slices=slices, noise_sd=noise)
    else:
        scene = phantom_stem_txm.stem_txm(
            seed, shape=(size, size), n_slices=n_slices or 1, noise_sd=noise
        )
    with output.new_folder(out, force) as folder:
        names = write_sections(scene, folder)
    console().print(f"wrote {out}: {', '.join(names)}")
