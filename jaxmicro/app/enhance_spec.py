"""[dictionary] and [learning] of a model file for `jaxmicro enhance`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from jaxmicro.app.spec import Table
from jaxmicro.dictionary.coupled import Recipe
from jaxmicro.dictionary.learn import Learning


class DictionaryTable(Table):
    """[dictionary]: what is learned."""

    variant: Annotated[Literal["coupled", "paper"], Field(description="'coupled' or 'paper'")] = (
        "coupled"
    )
    patch_size: Annotated[int, Field(ge=4, le=32, description="pixels, 4 to 32")] = 8
    atoms: Annotated[int, Field(ge=16, le=4096, description="a whole number, 16 to 4096")] = 256
    patches: Annotated[
        int, Field(ge=256, le=10_000_000, description="training patches, 256 to 10000000")
    ] = 100_000
    refine: Annotated[
        int,
        Field(ge=0, le=32, description="patch size of further passes, 4 to 32, or 0 for none"),
    ] = 0
    refinements: Annotated[int, Field(ge=1, le=4, description="further passes, 1 to 4")] = 1
    levels: Annotated[
        int, Field(ge=1, le=8, description="grey levels with twins of their own, 1 to 8")
    ] = 3
    contrast_scaling: Annotated[
        bool, Field(description="true (learn from patches of equal contrast) or false")
    ] = False

    @pydantic.model_validator(mode="after")
    def _levels_go_with_twins(self) -> DictionaryTable:
        if self.variant == "paper" and "levels" in self.model_fields_set:
            raise ValueError("levels go with variant = 'coupled': the paper's recipe has no twins")
        return self


class LearningTable(Table):
    """[learning]: how it is learned."""

    passes: Annotated[float, Field(gt=0, le=100, description="above 0 and at most 100")] = 1.0
    batch: Annotated[int, Field(ge=1, le=65536, description="patches, 1 to 65536")] = 1024
    rho: Annotated[float, Field(ge=0, le=50, description="forgetting, 0 to 50")] = 3.0
    updates: Annotated[Literal["surrogate", "adam"], Field(description="'surrogate' or 'adam'")] = (
        "surrogate"
    )
    learning_rate: Annotated[
        float, Field(gt=0, le=1, description="of adam, above 0 and at most 1")
    ] = 3e-3
    nonnegative: Annotated[bool, Field(description="true (codes at or above 0) or false")] = False
    ridge: Annotated[float, Field(ge=0, le=10, description="elastic net, 0 to 10")] = 0.0


class EnhanceVariant(Table):
    """A whole model file for `enhance`."""

    description: Annotated[str, Field(description="a text")] = ""
    dictionary: DictionaryTable = DictionaryTable()
    learning: LearningTable = LearningTable()

    def recipe(
        self,
        *,
        patch_size: int | None = None,
        atoms: int | None = None,
        upscale: int = 1,
        penalty: float | None = None,
    ) -> Recipe:
        """The recipe, options of the command line taking precedence."""
        table = self.dictionary
        n_atoms = table.atoms if atoms is None else atoms
        return Recipe(
            variant=table.variant,
            patch_size=table.patch_size if patch_size is None else patch_size,
            n_atoms=n_atoms,
            n_patches=table.patches,
            upscale=upscale,
            refine=table.refine,
            refinements=table.refinements,
            levels=table.levels,
            contrast_scaling=table.contrast_scaling,
            penalty=penalty,
            learning=Learning(n_atoms=n_atoms, **self.learning.model_dump()),
        )

    def to_toml(self, recipe: Recipe) -> str:
        """The variant as run: the recipe's numbers, defaults written out."""
        lines = [f'description = "{self.description}"', "", "[dictionary]"]
        known = {
            "variant": f'"{recipe.variant}"',
            "patch_size": recipe.patch_size,
            "atoms": recipe.n_atoms,
            "patches": recipe.n_patches,
            "refine": recipe.refine,
            "refinements": recipe.refinements,
            "contrast_scaling": str(recipe.contrast_scaling).lower(),
        }
        if recipe.variant == "coupled":
            known["levels"] = recipe.levels
        lines += [f"{name} = {value}" for name, value in known.items()]
        lines += ["", "[learning]"]
        values = dataclasses.asdict(recipe.learning)
        for name in type(self.learning).model_fields:
            value = values[name]
            text = f'"{value}"' if isinstance(value, str) else str(value).lower()
            lines.append(f"{name} = {text}")
        return "\n".join(lines) + "\n"
