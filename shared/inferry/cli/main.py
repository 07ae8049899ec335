"""The command line: serve, infer, batch, inspect, prepare, size, key, version."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from inferry import __version__
from inferry.errors import InferryError, InvalidRequest
from inferry.observability import logs
from inferry.settings import Settings

if TYPE_CHECKING:
    from inferry.cli.progress import Display
    from inferry.jobs.runner import Job


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; errors that a user can fix are one line on stderr and exit status 1."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_env(os.environ)
        given = {name: value for name, value in vars(options).items() if name in _SETTINGS and value is not None}
        settings = dataclasses.replace(settings, **given)
        # A server's events are its log; the other commands say what went wrong themselves.
        logs.configure(settings if options.run is _serve else dataclasses.replace(settings, log_level="CRITICAL"))
        return int(options.run(options, settings))
    except InferryError as exc:
        print(f"inferry: {logs.printable(str(exc))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone, as in `inferry inspect | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


_SETTINGS = ("model_path", "model_name", "host", "port", "workers", "batch_runner")
# How CSV files are written that aren't as most are.
_DIALECT = {
    "delimiter": "between the cells of CSV; default: a comma, of .tsv a tab",
    "decimal": "before the fraction of numbers in CSV; default: a point",
    "quote": "around cells of CSV; default: a double quote",
    "escape": "before a quote in a cell of CSV; default: none, it is written twice",
    "null": "a cell of CSV that is a missing value, beside the usual ones, as \\N",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inferry", description="Serve any ONNX model over the Open Inference Protocol."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="serve the models of a folder, an .onnx file or a URL over HTTP")
    serve.add_argument("model_path", nargs="?", metavar="PATH", help="default: MODEL_PATH")
    serve.add_argument(
        "--model-name", "--model_name", metavar="NAME", help="of the only model there; default: MODEL_NAME"
    )
    serve.add_argument("--host", help="default: HOST, 127.0.0.1")
    serve.add_argument("--port", type=int, help="default: PORT, 8000")
    serve.add_argument("--workers", type=int, help="processes on the one port; default: WORKERS, 1")
    serve.set_defaults(run=_serve)

    infer = commands.add_parser("infer", help="predict a file's rows with a model")
    infer.add_argument("model", metavar="MODEL", help="a model's name, NAME/VERSION, or an .onnx file")
    infer.add_argument(
        "--input", required=True, metavar="FILE", help="a file of rows or its URL, or - for JSON on stdin"
    )
    _add_reading(infer)
    infer.add_argument("--models", dest="model_path", metavar="PATH", help="folder or URL; default: MODEL_PATH")
    infer.set_defaults(run=_infer)

    batch = commands.add_parser("batch", help="predict files of any size, with the results in files")
    batch.add_argument(
        "input",
        metavar="IN",
        help="a file, a folder or a pattern as 'in/*.csv', or its URL (s3, az, gs); - for standard input",
    )
    batch.add_argument("output", metavar="OUT", help="where the results go: likewise, - for standard output")
    batch.add_argument("--model", default="", metavar="MODEL", help="as for infer; default: DEFAULT_MODEL")
    batch.add_argument("--models", dest="model_path", metavar="PATH", help="folder or URL; default: MODEL_PATH")
    batch.add_argument("--format", default="", help="of the input; default: what its extension says")
    batch.add_argument("--to", default="", metavar="FORMAT", help="of the results; default: the extension of OUT")
    batch.add_argument(
        "--keep",
        type=_names,
        default=(),
        metavar="COLUMNS",
        help="columns to carry over, NAME or NAME=AS, comma-separated; '*': all",
    )
    _add_reading(batch)
    batch.add_argument("--max-errors", type=_errors, metavar="N", help="rows, or a share as 0.01 or 1%%; default: any")
    batch.add_argument("--batch-size", type=int, default=0, metavar="ROWS", help="of a run; default: the model's best")
    batch.add_argument("--json", action="store_true", help="print a summary for machines")
    batch.add_argument(
        "--snapshot",
        default="",
        metavar="VERSION",
        help="of a table of Delta or Iceberg, or a time as 2026-01-31T12:00:00Z; default: the latest",
    )
    batch.add_argument("--dry-run", action="store_true", help="only show how each file would be read")
    batch.add_argument("--on", choices=("aws", "azure"), help="run it there, and watch it from here")
    batch.add_argument("--runner", dest="batch_runner", help="what runs it there; default: BATCH_RUNNER")
    batch.add_argument("--run", dest="named", default="", metavar="NAME", help="watch the run of this name again")
    batch.add_argument("--slice", type=int, default=0, metavar="MB", help="of files that are larger; default: 64")
    batch.set_defaults(run=_batch)

    inspect = commands.add_parser("inspect", help="show every model's signature, size, digest, opset and problems")
    inspect.add_argument("model_path", nargs="?", metavar="PATH", help="default: MODEL_PATH")
    inspect.add_argument("--json", action="store_true", help="for machines")
    inspect.set_defaults(run=_inspect)

    prepare = commands.add_parser("prepare", help="make a repository whose models start sooner, with proof")
    prepare.add_argument("model_path", metavar="MODELS", help="a folder, an .onnx file or a URL")
    prepare.add_argument("target", metavar="OUT", help="the folder or URL of the repository that is made")
    prepare.add_argument("--model-name", metavar="NAME", help="of the only model there; default: MODEL_NAME")
    prepare.add_argument(
        "--for", dest="processes", choices=("one", "many"), default="many", help="processes on a host; default: many"
    )
    prepare.add_argument(
        "--samples", action="append", default=[], metavar="[NAME=]FILE", help="inputs, as batch reads them"
    )
    prepare.add_argument("--tolerance", type=float, default=0.0, metavar="X", help="by which answers may differ")
    prepare.add_argument(
        "--quantize", choices=("static", "dynamic", "any"), help="8-bit weights, where they hold over the samples"
    )
    prepare.add_argument(
        "--agreement", type=_share, default=0.99, metavar="X", help="of answers with 8-bit weights; default: 0.99"
    )
    prepare.add_argument("--labels", metavar="FILE", help="of the samples, .json or .npy: compare accuracy instead")
    prepare.add_argument("--keep-original", action="store_true", help="keep the model itself as well")
    prepare.add_argument("--json", action="store_true", help="print a summary for machines")
    prepare.set_defaults(run=_prepare)

    size = commands.add_parser("size", help="the memory that a model needs in the clouds, and what it costs there")
    size.add_argument("model", nargs="?", default="", metavar="MODEL", help="its name; default: the only one")
    size.add_argument("--models", dest="model_path", metavar="PATH", help="folder, file or URL; default: MODEL_PATH")
    size.add_argument("--input", metavar="FILE", help="a request as .json; default: the model's example, or random")
    size.add_argument("--starts", type=_count, default=3, metavar="N", help="of each size, whose median counts")
    size.add_argument("--choose", choices=("cheapest", "quickest"), default="cheapest", help="default: cheapest")
    size.add_argument("--prices", default="", metavar="FILE", help="a table of prices; default: a dated one")
    size.add_argument("--pictures", metavar="FOLDER", help="draw size.svg and price.svg there")
    size.add_argument(
        "--write", action="append", default=[], metavar="FILE", help="the choice, to a cdk.json or *.tfvars.json"
    )
    size.add_argument("--environment", default="dev", metavar="NAME", help="of cdk.json; default: dev")
    size.add_argument("--json", action="store_true", help="print a summary for machines")
    size.set_defaults(run=_size)

    key = commands.add_parser("key", help="make an API key, and its digest for API_KEYS")
    key.set_defaults(run=_key)

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(run=_version)
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how a file is read, which infer and batch share."""
    parser.add_argument(
        "--drop", type=_names, default=(), metavar="NAMES", help="columns that are no inputs, and not kept by '*'"
    )
    parser.add_argument(
        "--columns", type=_names, default=(), metavar="NAMES", help="of the only input's values; '*': all of the file's"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="constants",
        metavar="NAME=VALUE",
        help="an input with one value, in JSON, for all rows; may be repeated",
    )
    for name, said in _DIALECT.items():
        parser.add_argument(f"--{name}", default="", metavar="TEXT" if name == "null" else "CHARACTER", help=said)
    parser.add_argument(
        "--header", action=argparse.BooleanOptionalAction, help="whether the first line of CSV names the columns"
    )


def _version(_: argparse.Namespace, __: Settings) -> int:
    print(f"inferry {__version__}")
    return 0


def _key(_: argparse.Namespace, __: Settings) -> int:
    from inferry.http import api_keys

    key, digest = api_keys.new()
    print(f"key     {key}\ndigest  {digest}")
    return 0


def _infer(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import infer
    from inferry.jobs.runner import Job

    settings, name, version = _model(options.model, settings)
    job = Job(input=options.input, output="", model=name, version=version, **_reading(options))
    for line in infer.predict(settings, job):
        print(line)
    return 0


def _model(named: str, settings: Settings) -> tuple[Settings, str, str | None]:
    """The settings, name and version for NAME, NAME/VERSION or the path of an .onnx file."""
    if named.endswith(".onnx"):
        return dataclasses.replace(settings, model_path=named), "", None
    name, _, version = named.partition("/")
    return settings, name, version or None


def _names(text: str) -> tuple[str, ...]:
    """The names in a list that is separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """A job's members for the options of `_add_reading`."""
    return {
        "columns": options.columns,
        "constants": tuple(options.constants),
        "drop": options.drop,
        "header": options.header,
    } | {name: getattr(options, name).replace("\\t", "\t") for name in _DIALECT}


def _errors(text: str) -> int | float:
    """The limit of --max-errors: a count of rows, or a share as a float, written 0.01 or 1%."""
    if not text.endswith("%") and "." not in text:
        count = int(text)
        if count < 0:
            raise ValueError(text)
        return count
    share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0 <= share <= 1:
        raise ValueError(text)
    return share


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError(text)
    return share


def _batch(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli.progress import Display
    from inferry.jobs.runner import Job

    settings, name, version = _model(options.model, settings)
    job = Job(
        input=options.input,
        output=options.output,
        model=name,
        version=version,
        format=options.format,
        to=options.to,
        keep=options.keep,
        max_errors=options.max_errors,
        batch_size=options.batch_size,
        **_reading(options),
    )
    if options.snapshot and (options.dry_run or options.on or "-" in (options.input, options.output)):
        raise InvalidRequest("--snapshot is for a table that is predicted here, from a folder and into files")
    if options.dry_run:
        return _dry_run(job, settings)
    if "-" in (options.input, options.output):
        return _run_streams(job, options, settings)
    run = _run_on_cloud if options.on else _run_here
    summary = run(job, options, settings, Display(sys.stderr))
    if options.json:
        print(json.dumps(summary, indent=2))
    return 1 if summary["failed"] else 0


def _run_here(job: "Job", options: argparse.Namespace, settings: Settings, display: "Display") -> dict[str, Any]:
    from inferry.cli import batch
    from inferry.observability.sinks.pusher import open_pusher
    from inferry.service import Service

    service = Service.from_settings(settings)
    pusher = open_pusher(settings, service.metrics, os.environ)
    try:
        if pusher:
            pusher.start()
        with _below(os.environ.get("TRACEPARENT", ""), settings):
            return batch.run(job, service, display, options.snapshot).as_dict()
    except KeyboardInterrupt:
        display.say("stopped; the same command goes on from what is done")
        raise
    finally:
        service.close()
        if pusher:
            pusher.close()


def _dry_run(job: "Job", settings: Settings) -> int:
    from inferry.cli import batch
    from inferry.service import Service

    service = Service.from_settings(settings)
    try:
        return 0 if batch.dry_run(job, service, sys.stdout) else 1
    finally:
        service.close()


def _run_streams(job: "Job", options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import batch
    from inferry.service import Service

    if options.output != "-" or options.on:
        raise InvalidRequest(
            "what is predicted from standard input goes to standard output: give - twice, without --on"
        )
    service = Service.from_settings(settings)
    try:
        return 0 if batch.run_streams(job, service, sys.stdin.buffer, sys.stdout.buffer, sys.stderr) else 1
    finally:
        service.close()


def _below(traceparent: str, settings: Settings) -> AbstractContextManager[None]:
    """With TRACES, the spans of the block are below the one of whoever called the command."""
    if not settings.traces:
        return nullcontext()
    from inferry.observability.traces import tracer

    return tracer(settings).below(traceparent)


def _run_on_cloud(job: "Job", options: argparse.Namespace, settings: Settings, display: "Display") -> dict[str, Any]:
    from inferry.jobs.runs import clouds

    cloud = clouds.open_cloud(options.on, settings.batch_runner, os.environ)
    again = f"inferry batch {options.input} {options.output} --on {options.on}"
    return clouds.run(cloud, job, display, name=options.named, slice_bytes=options.slice << 20, again=again)


def _inspect(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import inspect

    report = inspect.inspect(settings)
    print(json.dumps(report, indent=2) if options.json else inspect.table(report))
    return 1 if inspect.has_problems(report) else 0


def _prepare(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import prepare
    from inferry.prepare.preparation import Request

    many = options.processes == "many"
    samples, quantising = prepare.samples(options.samples), prepare.quantising(options)
    request = Request(many, options.keep_original, options.tolerance, samples, quantising)
    outcomes = prepare.run(settings, options.target, request, sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(prepare.report(outcomes), indent=2))
    return 1 if prepare.has_failed(outcomes) else 0


def _size(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import size

    report = size.run(options, settings, sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(report, indent=2))
    return 0


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def _serve(_: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import serve

    serve.run(settings)
    return 0
