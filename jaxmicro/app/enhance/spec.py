"""[dictionary] and [learning] of a model file for `jaxmicro enhance`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from jaxmicro.app import toml
from jaxmicro.app.model_file import Table
from jaxmicro.dictionary.coupled import Recipe
from jaxmicro.dictionary.learn import LearningOptions
from jaxmicro.errors import UsageError


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
        int, Field(ge=1, le=8, description="grey levels with paired atoms of their own, 1 to 8")
    ] = 3
    contrast_scaling: Annotated[
        bool, Field(description="true (learn from patches of equal contrast) or false")
    ] = False
    penalty: Annotated[
        float | None, Field(gt=0, description="a number above 0; left out it follows the noise")
    ] = None
    upscale: Annotated[
        int, Field(ge=1, le=8, description="result pixels per slice pixel, 1 to 8")
    ] = 1

    @pydantic.model_validator(mode="after")
    def _levels_go_with_coupled(self) -> DictionaryTable:
        if self.variant == "paper" and "levels" in self.model_fields_set:
            raise ValueError("levels go with variant = 'coupled': 'paper' has no paired atoms")
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
    tolerance: Annotated[
        float, Field(gt=0, lt=1, description="relative gap of the codes, between 0 and 1")
    ] = 1e-2
    early_stop: Annotated[
        float,
        Field(ge=0, lt=1, description="relative decrease that counts, 0 up to but not 1"),
    ] = 1e-4


class EnhanceVariant(Table):
    """A whole model file for `enhance`."""

    description: Annotated[str, Field(description="a text")] = ""
    dictionary: DictionaryTable = DictionaryTable()
    learning: LearningTable = LearningTable()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _for_images(cls, values: Any) -> Any:
        if isinstance(values, dict) and "mixture" in values:
            raise ValueError(
                "this is a model for `jaxmicro quantify`; give one with a table [dictionary]"
            )
        return values

    def with_options(self, **options: Any) -> EnhanceVariant:
        """Options of the command line in place of what [dictionary] says; None is not given.

        Raises:
          UsageError: a value that a model file could not have either.
        """
        given = {name: value for name, value in options.items() if value is not None}
        table = self.dictionary.model_dump(exclude_unset=True) | given
        table = {name: None if value == "auto" else value for name, value in table.items()}
        try:
            dictionary = DictionaryTable.model_validate(table)
        except pydantic.ValidationError as err:
            name = str(err.errors()[0]["loc"][0])
            allowed = DictionaryTable.model_fields[name].description
            raise UsageError(
                f"--{name.replace('_', '-')} {given[name]} is not allowed; use {allowed}"
            ) from err
        return self.model_copy(update={"dictionary": dictionary})

    def recipe(self) -> Recipe:
        """What `jaxmicro.dictionary` learns from."""
        table = self.dictionary.model_dump(exclude={"atoms", "patches"})
        n_atoms = self.dictionary.atoms
        learning = LearningOptions(n_atoms=n_atoms, **self.learning.model_dump())
        return Recipe(
            n_atoms=n_atoms, n_patches=self.dictionary.patches, learning=learning, **table
        )

    def to_toml(self) -> str:
        """The variant as a TOML file, defaults written out."""
        tables = self.model_dump()
        if self.dictionary.variant == "paper":
            del tables["dictionary"]["levels"]  # not a key of that variant
        return toml.text(tables)
