"""The names of a row's values, and what the columns of a table and the members of an object are to a model."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from inferry.errors import InvalidFile, InvalidRequest
from inferry.protocol.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from inferry.runtime.preprocess import Preprocess

NULLS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""The cells of CSV that stand for a missing value."""

# What pandas calls an index without a name, in CSV and in Parquet.
_INDEX = re.compile(r"|__index_level_\d+__")


class TakesRows(Protocol):
    """A model, as far as its rows are concerned. `columns` are the config's names of a row's values, if it has any;
    `preprocess` says how images become rows, by input.
    """

    @property
    def name(self) -> str: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def preprocess(self) -> "Mapping[str, Preprocess]": ...


class Chosen(NamedTuple):
    """A model whose only input's values are in the columns that a job names, whatever else a file has."""

    name: str
    signature: Signature
    columns: tuple[str, ...]
    preprocess: "Mapping[str, Preprocess]"


class Assigned(NamedTuple):
    """An input and the columns that make a row of it; `is_chosen`: a job has named them."""

    spec: TensorSpec
    columns: tuple[str, ...]
    is_chosen: bool = False

    @property
    def is_array(self) -> bool:
        """Whether a cell of CSV is a whole row of several values: a JSON array."""
        if self.columns != (self.spec.name,) and (len(self.columns) > 1 or not self.is_chosen):
            return False
        if self.spec.shape is None:  # a text may look like an array
            return self.spec.datatype.kind != "string"
        return not self.spec.is_fixed or self.spec.fitted(()) is None


def required(model: TakesRows) -> list[TensorSpec]:
    """The inputs that every row has, in the order of the model."""
    signature = model.signature
    return [spec for name, spec in signature.inputs.items() if name in signature.required]


def names(model: TakesRows) -> tuple[str, ...]:
    """The names of a row's values, in the order that a list has them: the config's columns, else the inputs."""
    return model.columns or tuple(spec.name for spec in required(model))


def listed(model: TakesRows, found: Collection[str]) -> tuple[str, ...]:
    """The columns, the config's or the job's, that are the values of a model's only input."""
    specs = required(model)
    return model.columns if len(specs) == 1 and (isinstance(model, Chosen) or specs[0].name not in found) else ()


def inputs_among(found: Iterable[str], apart: Collection[str]) -> tuple[str, ...]:
    """The columns of a file that may be a row's values: neither named as something else nor the index of pandas."""
    return tuple(name for name in found if name not in apart and not _INDEX.fullmatch(name))


def assign(
    found: Sequence[str], model: TakesRows, keep: Sequence[str], apart: Sequence[str], file: str
) -> list[Assigned]:
    """The columns of each input: those of its name, else for a model of one input the config's or all that may be.

    `apart`: columns that may not. InvalidFile says which columns are missing, or there twice.
    """
    _check_there(keep, found, file, "to keep")
    _check_there(apart, found, file, "to keep or to drop")
    assigned = _assigned(found, model, apart, file)
    counts = Counter(found)
    twice = [name for name in (*keep, *(name for item in assigned for name in item.columns)) if counts[name] > 1]
    if twice:
        raise InvalidFile(f"{file} has {counts[twice[0]]} columns of the name '{twice[0]}'")
    return assigned


def _assigned(found: Sequence[str], model: TakesRows, apart: Sequence[str], file: str) -> list[Assigned]:
    specs = required(model)
    values = {*model.columns, *(spec.name for spec in specs)}
    if given := [name for name in inputs_among(found, apart) if name in model.signature.inputs and name not in values]:
        raise InvalidFile(
            f"column '{given[0]}' of {file} is an optional input of model '{model.name}', which the rows of a table "
            f"can't give: leave it out with --drop {given[0]}, give it to all rows with --set {given[0]}=VALUE beside "
            "that, or write the rows as JSON Lines"
        )
    if isinstance(model, Chosen):
        _check_there(model.columns, found, file, "that --columns names")
        return [Assigned(specs[0], model.columns, is_chosen=True)]
    if not {spec.name for spec in specs} - set(found):
        return [Assigned(spec, (spec.name,)) for spec in specs]
    if len(specs) != 1:
        _check_there([spec.name for spec in specs], found, file, f"that model '{model.name}' takes")
    if model.columns:
        _check_there(model.columns, found, file, f"that config.json of model '{model.name}' names")
    return [Assigned(specs[0], model.columns or inputs_among(found, apart))]


def of_object(found: Mapping[str, Any], model: TakesRows) -> dict[str, Any]:
    """The inputs in an object of a file, which may leave out what is null in it; other members are nothing to us.

    An optional input that is null is one that is left out.
    InvalidRequest when it has none of the model's names.
    """
    inputs = model.signature.inputs
    values = {
        name: found[name] for name in inputs if name in found and not (inputs[name].optional and found[name] is None)
    }
    columns = listed(model, found)
    if any(name in found for name in columns):
        row = [found.get(name) for name in columns]
        values[required(model)[0].name] = row if len(row) > 1 else row[0]
    if not values and inputs.keys().isdisjoint(found):
        raise InvalidRequest(
            f"the row has none of the names that model '{model.name}' takes, {some(columns or tuple(inputs))}; "
            f"its own are {some(tuple(found))}"
        )
    return {spec.name: None for spec in required(model)} | values


def none_of(found: Sequence[str], model: TakesRows, file: str) -> str:
    """Says that a file of objects with the members `found` has none of the model's names, and what to give."""
    specs, wanted = required(model), names(model)
    said = (
        f"the lines of {file} have the members {some(found)}, but none that model '{model.name}' takes: {some(wanted)}"
    )
    close = [each for each in found if each.strip().casefold() in {name.strip().casefold() for name in wanted}]
    if close or len(specs) != 1:
        renamed = f"'{close[0]}'" if close else "them"
        return f"{said}. Rename {renamed}"
    example = ",".join(name for name in found if "," not in name)
    return f"{said}. Say which of them are the values of a row: --columns {example[:200]}, or --columns '*' for all"


def is_header(cells: Sequence[str], given: bool | None, file: str) -> bool:
    """Whether the first line of a CSV file names the columns; `given`: what the user says of it.

    InvalidFile when it holds numbers alone: it may be a row. 0, 1, 2 and so on are pandas' names of an array's columns.
    """
    values = [cell for cell in cells if cell.strip() not in NULLS]
    if given is not None or not values or not all(map(_is_number, values)) or _counts(cells):
        return given is not False
    raise InvalidFile(
        f"the first line of {file} holds numbers alone: {some(cells)}. Say --no-header when it is a row, --header when "
        "these are the columns' names"
    )


def by_position(count: int, model: TakesRows, keep: Sequence[str], file: str) -> list[str]:
    """The names of `count` columns that have none: as a list's values, but for the kept, named by number from 0.

    InvalidFile when they are not as many as the model's names.
    """
    numbered = [str(number) for number in range(count)]
    others = [number for number in numbered if number not in keep]
    wanted = names(model)
    if not model.columns and len(wanted) == 1 and len(others) != 1:
        return numbered
    if len(wanted) != len(others):
        raise InvalidFile(
            f"{file} has {len(others)} columns without names, but model '{model.name}' takes {len(wanted)}: "
            f"{some(wanted)}. Name those that are none of them with --keep, by their numbers from 0"
        )
    known = dict(zip(others, wanted, strict=True))
    return [known.get(number, number) for number in numbered]


def some(found: Sequence[str]) -> str:
    """The first of many names, for messages."""
    return ", ".join(found[:20]) + (f" and {len(found) - 20} more" if len(found) > 20 else "")


def _check_there(wanted: Sequence[str], found: Sequence[str], file: str, what: str) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InvalidFile(f"{file} has no column '{missing[0]}' {what}; {_meant(missing[0], found)}{some(found)}")


def _meant(name: str, found: Sequence[str]) -> str:
    """Asks for the name that differs from a missing one only in case or space, before the list of all names."""
    close = [each for each in found if each.strip().casefold() == name.strip().casefold()]
    return f"did you mean '{close[0]}'? Its columns are " if close else "its columns are "


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace("_", "?"))
    except ValueError:
        return False
    return True


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2 and so on, behind the empty one that pandas puts over an index."""
    numbered = list(cells[1:] if cells[0] == "" else cells)
    return len(numbered) > 1 and numbered == [str(number) for number in range(len(numbered))]
