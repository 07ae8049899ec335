"""Writes the tables of the pages in TABLES from the code: `python docs/generate.py`."""

import runpy
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from inferry.observability.catalogue import CATALOGUE, PROCESS, TRITON, Metric
from inferry.settings import Settings

DOCS = Path(__file__).parent


def page(name: str, text: str) -> str:
    """`text` of the page with the tables that the code says, each between its two marks."""
    for table, rows in TABLES[name].items():
        start, end = f"<!-- {table}: written by docs/generate.py -->\n", f"<!-- end of {table} -->\n"
        before, _, rest = text.partition(start)
        text = before + start + "".join(f"| {' | '.join(row)} |\n" for row in rows()) + end + rest.partition(end)[2]
    return text


def _settings() -> Iterable[Sequence[str]]:
    yield "Variable", "Default", "Meaning"
    yield "---", "---", "---"
    for f in fields(Settings):
        yield f"`{f.name.upper()}`", _default(f.default), f.metadata["help"]


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


def _metrics(metrics: Iterable[Metric]) -> Iterable[Sequence[str]]:
    yield "Metric", "Kind", "Unit", "Labels", "Meaning"
    yield "---", "---", "---", "---", "---"
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"`{metric.name}`", metric.kind, metric.unit, labels, metric.help


def _props() -> Iterable[Sequence[str]]:
    # The stack is nobody's installed package.
    sys.path.insert(0, str(DOCS.parent))
    from cdk.props import Props

    yield "Prop", "Default", "Meaning"
    yield "---", "---", "---"
    for f in fields(Props):
        choices = [f"`{choice}`" for choice in f.metadata.get("choices", ())]
        meaning = f"{f.metadata['help']} ({', '.join(choices)})" if choices else f.metadata["help"]
        yield f"`{f.name}`", "empty" if f.name == "settings" else _default(f.default), meaning


def _pins(name: str) -> dict[str, str]:
    lines = (DOCS.parent / "tests" / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def _models() -> Iterable[Sequence[str]]:
    tried = runpy.run_path(str(DOCS.parent / "tests" / "models" / "tried.py"))
    versions = _pins("models/packages.txt")
    yield "Model", "Package", "Licence", "`rows`", "Refused by"
    yield "---", "---", "---", "---", "---"
    for model in tried["TRIED"]:
        doors = [door for door in model.refusals if model.rows != "none" or door not in tried["ROWS"]]
        package = f"{model.package} {versions[model.package]}"
        yield f"`{model.name}`", package, tried["LICENCES"][model.package], model.rows, ", ".join(doors)


def _writers() -> Iterable[Sequence[str]]:
    writers = runpy.run_path(str(DOCS.parent / "tests" / "tables" / "formats.py"))["WRITERS"]
    versions = _pins("tables/writers.txt")
    yield "Writer", "Version", "Licence", "Formats"
    yield "---", "---", "---", "---"
    for writer in writers:
        yield writer.title, versions[writer.package], writer.licence, ", ".join(writer.formats)


TABLES: dict[str, dict[str, Callable[[], Iterable[Sequence[str]]]]] = {
    "settings.md": {"settings": _settings},
    "tried.md": {"models": _models, "writers": _writers},
    "deploy-aws.md": {"props": _props},
    "metrics.md": {
        "metrics": lambda: _metrics(CATALOGUE),
        "process": lambda: _metrics(PROCESS),
        "triton": lambda: _metrics(TRITON),
    },
}


if __name__ == "__main__":
    for name in TABLES:
        path = DOCS / name
        path.write_text(page(name, path.read_text()))
