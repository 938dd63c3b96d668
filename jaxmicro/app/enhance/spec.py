"""[dictionary] and [learning] of a model file for `jaxmicro enhance`."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import Field

from jaxmicro.app import toml
from jaxmicro.app.model_file import Table, record_of, table_of
from jaxmicro.dictionary.coupled import Recipe
from jaxmicro.dictionary.learn import LearningOptions
from jaxmicro.errors import UsageError


class DictionaryTable(table_of(Recipe)):
    """[dictionary]: what is learned."""

    @pydantic.model_validator(mode="after")
    def _levels_go_with_coupled(self) -> DictionaryTable:
        if self.variant == "paper" and "levels" in self.model_fields_set:
            raise ValueError("levels go with variant = 'coupled': 'paper' has no paired atoms")
        return self


class LearningTable(table_of(LearningOptions)):
    """[learning]: how it is learned."""


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

    def with_passes(self, count: int) -> EnhanceVariant:
        """As it ran: with the number of passes that were made."""
        ran = self.recipe().with_passes(count)
        change = {"refine": ran.refine, "refinements": ran.refinements}
        return self.model_copy(update={"dictionary": self.dictionary.model_copy(update=change)})

    def recipe(self) -> Recipe:
        """What `jaxmicro.dictionary` learns from."""
        learning = record_of(self.learning, LearningOptions, n_atoms=self.dictionary.atoms)
        return record_of(self.dictionary, Recipe, learning=learning)

    def to_toml(self) -> str:
        """The variant as a TOML file, defaults written out."""
        tables = self.model_dump()
        if self.dictionary.variant == "paper":
            del tables["dictionary"]["levels"]  # not a key of that variant
        return toml.text(tables)
