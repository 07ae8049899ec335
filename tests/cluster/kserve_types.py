"""Judges KServe's resources, YAML on stdin, by its own package's classes: no key that they don't know, none missing.

Run by the Python that has the package. Prints what is wrong, a line each.
"""

import re
import sys
from typing import Any

import kserve
import yaml

KINDS = {
    "ClusterServingRuntime": kserve.V1alpha1ClusterServingRuntime,
    "InferenceService": kserve.V1beta1InferenceService,
}


def walk(kind: Any, value: Any, path: str) -> None:
    if not isinstance(value, dict):
        print(f"{path}: {value!r} is no {kind.__name__}")
        return
    names = {name: attribute for attribute, name in kind.attribute_map.items()}
    for name in value.keys() - names.keys():
        print(f"{path}.{name}: {kind.__name__} has no such key")
    for name in value.keys() & names.keys():
        check(kind.openapi_types[names[name]], value[name], f"{path}.{name}")
    try:
        kind(**{names[name]: item for name, item in value.items() if name in names})
    except ValueError as exc:
        print(f"{path}: {exc}")


def check(type_name: str, value: Any, path: str) -> None:
    item = re.fullmatch(r"list\[(.*)\]", type_name)
    if item:
        for number, element in enumerate(value):
            check(item[1], element, f"{path}[{number}]")
    elif hasattr(kserve, type_name):
        walk(getattr(kserve, type_name), value, path)


for document in yaml.safe_load_all(sys.stdin):
    walk(KINDS[document["kind"]], document, document["kind"])
