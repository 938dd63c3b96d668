"""What decides the result of a slice: the plan, and the dictionary, learned, read or kept."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from jaxmicro.app.enhance.finished import Finished
from jaxmicro.app.enhance.images import example_of
from jaxmicro.app.progress import Stages
from jaxmicro.data.movie import Image
from jaxmicro.data.read import Volume
from jaxmicro.dictionary.coupled import Recipe
from jaxmicro.dictionary.dictionary_file import load_dictionary, save_dictionary
from jaxmicro.dictionary.enhance import Dictionary, build_dictionary, usable_pixels
from jaxmicro.dictionary.forward import NOT_KNOWN, Instruments
from jaxmicro.dictionary.held_out import better_by, settled_passes, split
from jaxmicro.dictionary.learn import LearningState
from jaxmicro.dictionary.learning_file import load_learning, save_learning
from jaxmicro.dictionary.matching import grey_range
from jaxmicro.errors import DataError, UsageError

OWN_PATCHES = 20_000  # of the slice, for a dictionary to compare with
BEYOND_DOUBT = 2.0  # standard errors by which that dictionary must be the better one


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnhancePlan:
    """Everything that decides the result of a slice, the dictionary apart.

    Attributes:
      train: what to learn from; empty where the dictionary is read from a file.
      recipe: how to learn; None where the dictionary is read from a file.
      instruments: their resolutions and contrast, as far as they are known.
      mask: usable pixels of every slice (y, x); None for all.
      stride: step between patches, in pixels.
      depth: weight of each neighbouring slice, where the slice itself has 1.
      automatic: the number of passes, and whether the training images fit, are found on the slice.
      evidence: half-data resolution and a control dictionary for the first slice.
      seed: of everything that is drawn.
    """

    train: tuple[Image, ...] = ()
    recipe: Recipe | None = None
    instruments: Instruments = NOT_KNOWN
    mask: np.ndarray | None = None
    stride: int = 1
    depth: float = 0.0
    automatic: bool = False
    evidence: bool = True
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Trained:
    """A dictionary to apply: learned by this run, or read from a file (then `learned` is None).

    `of_slice` where it was learned from the slice, for the training images do not fit it.
    """

    dictionary: Dictionary
    learned: LearningState | None = None
    notes: tuple[str, ...] = ()
    of_slice: bool = False


def read_trained(path: pathlib.Path, patch_size: int | None) -> Trained:
    """The dictionary of a file, whose patches have `patch_size` pixels if that is given.

    Raises:
      UsageError: they have not. DataError: the file is not one of ours.
    """
    dictionary = load_dictionary(path)
    if patch_size not in (None, dictionary.patch_size):
        raise UsageError(
            f"--patch-size {patch_size} contradicts {path}, whose patches are "
            f"{dictionary.patch_size} pixels; leave the option out"
        )
    return Trained(dictionary)


def save_trained(folder: pathlib.Path, trained: Trained) -> None:
    """dictionary.npz, and learning.npz if this run learned it."""
    save_dictionary(folder / "dictionary.npz", trained.dictionary)
    if trained.learned is not None:
        save_learning(folder / "learning.npz", trained.learned)


def trained_for(
    volume: Volume,
    plan: EnhancePlan,
    stages: Stages,
    *,
    dictionary: pathlib.Path | None = None,
    patch_size: int | None = None,
    resume: pathlib.Path | None = None,
    finished: Finished | None = None,
) -> Trained:
    """The dictionary for a volume: of a run that was stopped, of a file, or learned.

    Raises:
      DataError, UsageError: see `read_trained` and `train_for`.
    """
    kept = None if finished is None else kept_training(finished)
    if kept is not None:
        return kept
    if dictionary is not None:
        trained = read_trained(dictionary, patch_size)
    else:
        trained = train_for(volume, plan, stages, resume)
        if plan.automatic:
            with stages.stage("settings"):
                trained = settled(trained, example_of(volume, plan.depth), plan)
    if finished is not None:
        keep_training(finished, trained)
    return trained


def kept_training(finished: Finished) -> Trained | None:
    """The dictionary that a run that was stopped had learned, or None."""
    notes = finished.notes
    if notes is None:
        return None
    learned = finished.folder / "learning.npz"
    state = load_learning(learned) if learned.exists() else None
    return Trained(load_dictionary(finished.folder / "dictionary.npz"), state, notes)


def keep_training(finished: Finished, trained: Trained) -> None:
    """Keep it, so that a run that is stopped need not learn again."""
    save_trained(finished.folder, trained)
    finished.keep_notes(trained.notes)


def train_for(
    volume: Volume,
    plan: EnhancePlan,
    stages: Stages,
    resume: pathlib.Path | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Trained:
    """Learn a dictionary for an example of the slices (slices of one stack share their noise).

    `resume` is the learning.npz of an earlier run to go on from. `watch` is called with the
    minibatches done and in all, and may raise to end the learning.
    """
    if not plan.train or plan.recipe is None:
        raise UsageError("--train is missing; give one or more training images, or --dictionary")
    first = example_of(volume, plan.depth)
    start = None if resume is None else load_learning(resume)
    with stages.stage("learn", unit="batches") as advance:

        def progress(done: int, total: int) -> None:
            advance.of(total)
            advance(1)
            if watch is not None:
                watch(done, total)

        return learn(plan.train, first, plan.recipe, plan, start, progress=progress)


def learn(
    train: Sequence[Image],
    first: Image,
    recipe: Recipe,
    plan: EnhancePlan,
    start: LearningState | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    dictionary, learned, notes = build_dictionary(
        list(train),
        first,
        recipe,
        instruments=plan.instruments,
        slice_mask=plan.mask,
        seed=plan.seed,
        start=start,
        progress=progress,
    )
    return Trained(dictionary, learned, notes)


def settled(trained: Trained, first: Image, plan: EnhancePlan) -> Trained:
    """The dictionary with the passes that predict held-out noise of the first slice best.

    Where the slice's own patches do better beyond doubt, the training images are of another
    material: the slice's own dictionary is taken, and a note says so.
    """
    good = usable_pixels(first, plan.mask)
    low, high = grey_range(first.values, good)
    noise = trained.dictionary.noise
    noise = dataclasses.replace(noise, sd=noise.sd * (high - low))
    held = split(first, good, noise, seed=plan.seed)
    dictionary, errors = settled_passes(trained.dictionary, held, seed=plan.seed)
    count = len(dictionary.stages)
    worth, _ = better_by(errors[count - 1], errors[0])
    own = _own(held.whole, first, plan)
    if own is not None:
        gain, doubt = better_by(held.errors(own, seed=plan.seed), errors[count - 1])
        if gain > BEYOND_DOUBT * doubt:
            own = _own(first, first, plan) or own
            return Trained(own, None, (*trained.notes, _foreign(gain, doubt)), of_slice=True)
    note = (
        f"settings found on the slice: {count} of {len(errors)} passes (held-out error {worth:.2g} "
        f"noise variances below that of one), penalty {dictionary.stages[0].penalty:g}, pixels of "
        f"{dictionary.result_pixel_nm:.3g} nm"
    )
    return dataclasses.replace(trained, dictionary=dictionary, notes=(*trained.notes, note))


def _own(seen: Image, first: Image, plan: EnhancePlan) -> Dictionary | None:
    """One pass learned from what is seen of the slice, as if it were sharp, for the slice; None
    where it has too few patches."""
    assert plan.recipe is not None
    recipe = plan.recipe
    few = dataclasses.replace(recipe, n_patches=min(recipe.n_patches, OWN_PATCHES), refine=0)
    same = dataclasses.replace(plan.instruments, invert=False)
    try:
        return learn([seen], first, few, dataclasses.replace(plan, instruments=same)).dictionary
    except DataError:  # then there is no rival, and the training images stay
        return None


def _foreign(gain: float, doubt: float) -> str:
    return (
        "the training images do not fit this slice: a dictionary of the slice's own patches has a "
        f"held-out error {gain:.2g} ± {doubt:.1g} noise variances lower and is used instead; "
        "nothing finer than the slice shows can come from it. Give training images of this "
        "material, or --model enhance_refined to use these all the same"
    )
