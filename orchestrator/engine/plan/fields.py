"""Tables of fields: what a mapping in a plan file may hold, each with reader, default and meaning.

One row serves three: the reader of the file, its JSON Schema (`plan.schema`), and what an editor shows beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.engine.plan.nodes import Place
from orchestrator.engine.plan.readers import Reader, Schema, take

T = TypeVar("T")
Places = Mapping[str, Place]
"""What stands in a mapping, by field."""


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """One field that a mapping may hold."""

    name: str
    reader: Reader[T]
    default: T
    """What holds where it is left out."""
    meaning: str
    """In one line, for people."""

    def of(self, places: Places) -> T:
        """Its value; the default where it is left out or faulty."""
        return take(places, self.name, self.reader, self.default)

    @property
    def schema(self) -> Schema:
        """What stands behind the name."""
        return self.reader.schema


@dataclass(frozen=True, slots=True)
class Group:
    """A mapping and the fields that it may hold."""

    name: str
    fields: tuple[Field[Any] | Group, ...]
    meaning: str
    """In one line, for people."""
    required: tuple[str, ...] = ()
    """Fields that must be there."""
    wanted: str = ""
    """An example of the mapping, for faults; empty names the fields."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its fields, in order."""
        return tuple(field.name for field in self.fields)

    def below(self, places: Places) -> Places:
        """What stands in this mapping inside another one; nothing where it is left out."""
        place = places.get(self.name)
        return self.at(place) if place is not None else {}

    def at(self, place: Place) -> Places:
        """What stands in the mapping at a place. Unknown and missing fields are faults."""
        wanted = self.wanted or f"a mapping with fields of {', '.join(self.names)}"
        return place.fields(self.names, wanted)

    @property
    def schema(self) -> Schema:
        """Of the mapping."""
        properties = {field.name: {**field.schema, "description": field.meaning} for field in self.fields}
        required = {"required": list(self.required)} if self.required else {}
        return {"type": "object", "properties": properties, **required, "additionalProperties": False}
