"""The command line: serve, infer, batch, inspect, init, prepare, push, size, migrate, key, completion."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from inferry.cli.parser import DIALECT, make_parser
from inferry.errors import InferryError, InvalidRequest
from inferry.observability import logs
from inferry.settings import Settings

if TYPE_CHECKING:
    from inferry.cli.progress import Display
    from inferry.jobs.runner import Job


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; errors that a user can fix are one line on stderr and exit status 1."""
    options = make_parser().parse(arguments)
    try:
        settings = Settings.from_env(os.environ)
        given = {name: value for name, value in vars(options).items() if name in _SETTINGS and value is not None}
        settings = dataclasses.replace(settings, **given)
        # A server's events are its log; the other commands say what went wrong themselves.
        logs.configure(settings if options.command == "serve" else dataclasses.replace(settings, log_level="CRITICAL"))
        status = _COMMANDS[options.command](options, settings)
        sys.stdout.flush()  # what is left would be written too late for the except below
        return status
    except InferryError as exc:
        print(f"inferry: {logs.printable(str(exc))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone, as in `inferry inspect | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


_SETTINGS = ("model_path", "model_name", "host", "port", "grpc_port", "workers", "batch_runner")


def _key(_: argparse.Namespace, __: Settings) -> int:
    from inferry.http import api_keys

    key, digest = api_keys.new()
    print(f"key     {key}\ndigest  {digest}")
    return 0


def _completion(options: argparse.Namespace, _: Settings) -> int:
    from inferry.cli import completion

    print(completion.script(options.shell), end="")
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


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """A job's members for the options of `_add_reading`."""
    return {
        "columns": options.columns,
        "constants": tuple(options.constants),
        "drop": options.drop,
        "header": options.header,
    } | {name: getattr(options, name).replace("\\t", "\t") for name in DIALECT}


def _batch(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import summary_table
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
    else:
        sys.stderr.write(f"\n{summary_table.table(summary)}")
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
    return inspect.status(report)


def _init(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import init

    outcome = init.init(options.model, settings, options.pin, options.force)
    print("\n".join(outcome.lines))
    return 0 if outcome.has_example else 1


def _import(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import importing

    for line in importing.lines(options, settings):
        print(line, flush=True)
    return 0


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


def _push(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import push

    print("\n".join(push.push(options.model, options.url, settings, options.name, options.alias, os.environ)))
    return 0


def _size(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import size

    report = size.run(options, settings, sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(report, indent=2))
    return 0


def _migrate(options: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import migrate

    migrate.run(settings, options.writer, options.every)
    return 0


def _serve(_: argparse.Namespace, settings: Settings) -> int:
    from inferry.cli import exports, serve

    exports.refuse_foreign(settings.model_path)
    serve.run(settings)
    return 0


_COMMANDS = {
    "serve": _serve,
    "infer": _infer,
    "batch": _batch,
    "inspect": _inspect,
    "init": _init,
    "import": _import,
    "prepare": _prepare,
    "push": _push,
    "size": _size,
    "migrate": _migrate,
    "key": _key,
    "completion": _completion,
}
