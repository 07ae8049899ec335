"""scikit-learn's estimators, by skl2onnx."""

import shlex
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.origins.origin import Input, Origin, Wish, matrix, needed
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import DATATYPES, Array

_OF_TEXT = ("CountVectorizer", "TfidfVectorizer")
# skl2onnx writes operators of newer ones for some estimators, and refuses them for others.
_OPSETS = {"": 18, "ai.onnx.ml": 3}
# How skl2onnx names the outputs of estimators, and the methods that answer the same.
_METHODS = {
    "label": ("predict",),
    "output_label": ("predict",),
    "probabilities": ("predict_proba",),
    "output_probability": ("predict_proba",),
    "variable": ("predict", "transform"),
    "variable1": ("transform",),
    "scores": ("decision_function", "score_samples"),
}


def of_model(estimator: Any, path: Path, wish: Wish) -> Origin:
    """A fitted estimator or pipeline. InvalidRequest when skl2onnx can't convert it."""
    skl2onnx = needed("skl2onnx", path)
    sklearn = needed("sklearn", path)
    inputs = list(wish.inputs) or [_input(estimator, path)]
    if len(inputs) > 1:
        needed("pandas", path)  # for the answers
    types = needed("skl2onnx.common.data_types", path)
    tensors = {"FP32": "FloatTensorType", "FP64": "DoubleTensorType", "INT64": "Int64TensorType"}
    tensors |= {"BYTES": "StringTensorType", "BOOL": "BooleanTensorType", "INT32": "Int32TensorType"}
    if unknown := [each.datatype.name for each in inputs if each.datatype.name not in tensors]:
        raise InvalidRequest(f"skl2onnx takes no {unknown[0]}: give one of {', '.join(tensors)}")
    initial = [(each.name, getattr(types, tensors[each.datatype.name])([None, each.width])) for each in inputs]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = skl2onnx.to_onnx(
                estimator, initial_types=initial, options=_options(estimator), target_opset=_OPSETS
            )
    except Exception as exc:
        raise InvalidRequest(f"skl2onnx can't convert {path}: {' '.join(str(exc).split())[:1000]}") from exc
    _rename_inputs(model, inputs)
    return Origin(
        model.SerializeToString(),
        f"skl2onnx {skl2onnx.__version__} of scikit-learn {sklearn.__version__}",
        lambda feed: _answers(estimator, inputs, feed),
        _classes(estimator),
        columns=_columns(estimator, inputs),
    )


def _rename_inputs(model: Any, inputs: Sequence[Input]) -> None:
    """Gives inputs the names of columns again: skl2onnx puts '_' for blanks and the like in them."""
    graph = model.graph
    if len(graph.input) != len(inputs):
        return
    names = {found.name: each.name for found, each in zip(graph.input, inputs, strict=True)}
    for found in graph.input:
        found.name = names[found.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _input(estimator: Any, path: Path) -> Input:
    """The matrix that an estimator was fitted with, which tells its width and not its datatypes."""
    width = getattr(estimator, "n_features_in_", None)
    names = _feature_names(estimator)
    tables = [step for step in _steps(estimator) if type(step).__name__ == "ColumnTransformer"]
    if width is None or tables:
        inputs = _table_inputs(tables[0], names) if tables else ["text=BYTES[1]"]
        raise InvalidRequest(
            f"{path} doesn't tell the datatypes of its inputs: name each as NAME=DATATYPE[WIDTH], such as "
            + " ".join(f"--input {shlex.quote(each)}" for each in inputs)
        )
    name = "X"
    while name in names:  # a member of the input's name would be all of a row
        name += "_"
    return Input(name, DATATYPES["FP32"], int(width))


def _table_inputs(table: Any, names: Sequence[str]) -> list[str]:
    """An input for each column that a ColumnTransformer uses: what it does with it tells texts from numbers."""
    datatypes: dict[int, str] = {}
    for transformer, step, _ in table.transformers_:
        if step == "drop":
            continue
        for place, column in enumerate(table._transformer_to_input_indices[transformer]):
            datatypes[column] = max(_datatype(step, place), datatypes.get(column, ""), key=_DATATYPES.index)
    if not names and {*datatypes.values()} == {"FP32"}:
        return [f"X=FP32[{table.n_features_in_}]"]
    return [f"{names[column] if names else f'x{column}'}={datatypes[column]}[1]" for column in sorted(datatypes)]


# The later ones are the surer ones.
_DATATYPES = ("", "FP32", "INT64", "BYTES")


def _datatype(step: Any, place: int) -> str:
    """What a transformer's `place`th column holds: the categories, and what is put in for missing values, tell."""
    for each in _steps(step):
        if type(each).__name__ in _OF_TEXT:
            return "BYTES"
        seen = [
            values[place]
            for values in (getattr(each, "categories_", ()), getattr(each, "statistics_", ()))
            if len(values)
        ]
        for values in seen:
            found = np.ravel(values).tolist()
            if any(isinstance(value, str) for value in found):
                return "BYTES"
            if all(type(value) is int for value in found):
                return "INT64"
    return "FP32"


def _columns(estimator: Any, inputs: Sequence[Input]) -> tuple[str, ...]:
    """The names that the matrix's columns had in the DataFrame; none where a row of these would be ambiguous."""
    names = _feature_names(estimator)
    fits = len(inputs) == 1 and inputs[0].width == len(names) and inputs[0].name not in names
    return names if fits and all(names) and len({*names}) == len(names) else ()


def _feature_names(estimator: Any) -> tuple[str, ...]:
    return tuple(map(str, getattr(estimator, "feature_names_in_", ())))


def _steps(estimator: Any) -> Sequence[Any]:
    return [step for _, step in getattr(estimator, "steps", [])] or [estimator]


def _options(estimator: Any) -> dict[int, dict[str, Any]]:
    """Arrays of probabilities instead of maps, which are slower and take no doubles; a locale that machines have."""
    options: dict[int, dict[str, Any]] = {
        id(part): {"locale": "C"} for part in _parts(estimator) if type(part).__name__ in _OF_TEXT
    }
    if hasattr(_steps(estimator)[-1], "predict_proba"):
        options[id(estimator)] = {"zipmap": False}
    return options


def _parts(estimator: Any) -> list[Any]:
    """An estimator and those in it; a ColumnTransformer has fitted copies of those that it was made with."""
    parts = [estimator, *estimator.get_params().values()]
    fitted = [step for part in parts for _, step, _ in getattr(part, "transformers_", ())]
    return parts + [each for step in fitted if hasattr(step, "get_params") for each in _parts(step)]


def _classes(estimator: Any) -> tuple[str, ...]:
    classes = getattr(_steps(estimator)[-1], "classes_", ())
    return () if isinstance(classes, list) else tuple(map(str, classes))


def _answers(estimator: Any, inputs: Sequence[Input], feed: Feed) -> Mapping[str, Array]:
    data: Any = _frame(inputs, feed) if len(inputs) > 1 else _plain(estimator, inputs, feed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X (does not have valid|has) feature names")
        return _asked(estimator, data)


def _asked(estimator: Any, data: Any) -> Mapping[str, Array]:
    found: dict[str, Array] = {}
    for output, methods in _METHODS.items():
        method = next((name for name in methods if hasattr(estimator, name)), None)
        if method is not None:
            answer = getattr(estimator, method)(data)
            if isinstance(answer, list):
                found |= {f"{output}_{index}": np.asarray(each) for index, each in enumerate(answer)}
            else:
                found[output] = np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
    return found


def _plain(estimator: Any, inputs: Sequence[Input], feed: Feed) -> Any:
    """A matrix, with its columns' names where pandas is there; texts are a list of them, as vectorizers take them."""
    array = matrix(feed)
    if (columns := _columns(estimator, inputs)) and find_spec("pandas"):
        return import_module("pandas").DataFrame(array, columns=list(columns))
    return array.reshape(-1) if array.dtype.hasobject and array.shape[1:] == (1,) else array


def _frame(inputs: Sequence[Input], feed: Feed) -> Any:
    if wide := [each.name for each in inputs if each.width != 1]:
        raise InvalidRequest(f"several inputs are columns of one value each, and '{wide[0]}' has more")
    return import_module("pandas").DataFrame({each.name: feed[each.name].reshape(-1) for each in inputs})
