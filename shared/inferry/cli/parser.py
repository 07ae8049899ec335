"""The options of the command line, and what is said of those that are wrong."""

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from inferry import __version__

if TYPE_CHECKING:
    from inferry.origins.origin import Input

# How CSV files are written that aren't as most are.
DIALECT = {
    "delimiter": "between the cells of CSV; default: a comma, of .tsv a tab",
    "decimal": "before the fraction of numbers in CSV; default: a point",
    "quote": "around cells of CSV; default: a double quote",
    "escape": "before a quote in a cell of CSV; default: none, it is written twice",
    "null": "a cell of CSV that is a missing value, beside the usual ones, as \\N",
}


class Parser(argparse.ArgumentParser):
    """argparse's, which names the command or the option that was probably meant."""

    def __init__(self, **options: object) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)  # type: ignore[arg-type]
        self.commands: dict[str, Parser] = {}
        """Its commands by their names."""

    def add_command(self, name: str, meaning: str, *examples: str) -> "Parser":
        """The parser of a command of this one's; `examples` are lines without the program's name."""
        if not self.commands:
            self._added = self.add_subparsers(metavar="COMMAND", required=True, dest="command")
        epilog = "\n  ".join(["examples:", *(f"{self.prog} {name} {example}" for example in examples)])
        parser: Parser = self._added.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        parser.epilog = epilog if examples else None
        self.commands[name] = parser
        return parser

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """The options, with the name of their `command`. Leaves by SystemExit with status 2 when they are wrong."""
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            command = self.commands[options.command]
            known = [name for action in command._actions for name in action.option_strings]
            command.error(f"unrecognized arguments: {' '.join(unknown)}{_meant(unknown[0].partition('=')[0], known)}")
        return options

    def error(self, message: str) -> NoReturn:
        if self.commands and "invalid choice: " in message:
            given = message.partition("invalid choice: ")[2].split()[0].strip("'")
            message += _meant(given, self.commands)
        super().error(message)


def _meant(given: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(given, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def make_parser() -> Parser:
    """The parser of the command `inferry`."""
    parser = Parser(prog="inferry", description="Serve any ONNX model over the Open Inference Protocol.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")

    serve = parser.add_command(
        "serve",
        "serve the models of a folder, an .onnx file or a URL over HTTP",
        "models --port 9000",
        "s3://bucket/models --workers 2",
    )
    serve.add_argument("model_path", nargs="?", metavar="PATH", help="default: MODEL_PATH")
    serve.add_argument(
        "--model-name", "--model_name", metavar="NAME", help="of the only model there; default: MODEL_NAME"
    )
    serve.add_argument("--host", help="default: HOST, 127.0.0.1")
    serve.add_argument("--port", type=int, help="default: PORT, 8000")
    serve.add_argument("--grpc-port", type=int, help="of gRPC beside it; default: GRPC_PORT, none")
    serve.add_argument("--workers", type=int, help="processes on the one port; default: WORKERS, 1")

    infer = parser.add_command(
        "infer", "predict a file's rows with a model", "digits --input rows.csv", "model.onnx --input request.json"
    )
    infer.add_argument("model", metavar="MODEL", help="a model's name, NAME/VERSION, or an .onnx file")
    infer.add_argument(
        "--input", required=True, metavar="FILE", help="a file of rows or its URL, or - for JSON on stdin"
    )
    _add_reading(infer)
    infer.add_argument("--models", dest="model_path", metavar="PATH", help="folder or URL; default: MODEL_PATH")

    batch = parser.add_command(
        "batch",
        "predict files of any size, with the results in files",
        "in.parquet out.parquet --model digits --keep id",
        "'in/*.csv' out/ --model digits --dry-run",
    )
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

    inspect = parser.add_command(
        "inspect", "show every model's signature, size, digest, opset and problems", "models", "model.onnx --json"
    )
    inspect.add_argument("model_path", nargs="?", metavar="PATH", help="default: MODEL_PATH")
    inspect.add_argument("--json", action="store_true", help="for machines")

    init = parser.add_command(
        "init",
        "write a model's config.json: an example that ran, labels, batching",
        "model.onnx",
        "digits --models models --force",
    )
    init.add_argument("model", metavar="MODEL", help="an .onnx file, a model's folder, a name or NAME/VERSION")
    init.add_argument("--models", dest="model_path", metavar="PATH", help="folder of names; default: MODEL_PATH")
    init.add_argument("--model-name", metavar="NAME", help="of the only model there; default: MODEL_NAME")
    init.add_argument("--pin", action="store_true", help="serve these files only, by their SHA-256")
    init.add_argument("--force", action="store_true", help="write over a config.json")

    importing = parser.add_command(
        "import",
        "make an ONNX file of another framework's model, or check one, and put it into a repository",
        "model.skops --models models",
        "model.joblib --trust --models models --samples test.csv",
        "model.onnx --rename linear_13=logits --against outputs.npz",
    )
    importing.add_argument(
        "source",
        metavar="FILE",
        help=".onnx, .skops, .joblib, .pkl, .txt (LightGBM), .ubj, .json (XGBoost), .cbm (CatBoost), .pt2 (PyTorch)",
    )
    importing.add_argument("--models", dest="model_path", metavar="PATH", help="folder it goes to; default: MODEL_PATH")
    importing.add_argument("--name", default="", metavar="NAME", help="of the model; default: the file's")
    importing.add_argument("--trust", action="store_true", help="load a pickle, which runs the code that is in it")
    importing.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        type=_input,
        metavar="NAME=DATATYPE[WIDTH]",
        help="an input, where the file doesn't tell it; may be repeated",
    )
    importing.add_argument(
        "--samples",
        action="append",
        default=[],
        metavar="FILE",
        help="inputs to compare answers with, as batch reads them",
    )
    importing.add_argument("--against", metavar="NPZ", help="inputs, and what the framework answered to them")
    importing.add_argument("--tolerance", type=float, default=1e-4, metavar="X", help="of answers; default: 0.0001")
    importing.add_argument(
        "--rename", action="append", default=[], type=_renaming, metavar="OLD=NEW", help="an output; may be repeated"
    )
    importing.add_argument("--labels", metavar="FILE", help="of classes: an array, or a config.json with id2label")
    importing.add_argument("--pin", action="store_true", help="serve these files only, by their SHA-256")
    importing.add_argument("--force", action="store_true", help="write over a model of this name")

    prepare = parser.add_command(
        "prepare",
        "make a repository whose models start sooner, with proof",
        "models dist/models",
        "models dist/models --quantize static --samples rows.npy",
    )
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

    push = parser.add_command(
        "push",
        "register a model with MLflow, with its config.json",
        "models/digits mlflow+http://127.0.0.1:5000 --alias champion",
        "model.onnx mlflow+https://mlflow.example.org --name fraud",
    )
    push.add_argument("model", metavar="MODEL", help="an .onnx file, a model's folder, a name or NAME/VERSION")
    push.add_argument("url", metavar="URL", help="mlflow+http://host:port or mlflow+https://host")
    push.add_argument("--models", dest="model_path", metavar="PATH", help="folder of names; default: MODEL_PATH")
    push.add_argument("--model-name", metavar="NAME", help="of the only model there; default: MODEL_NAME")
    push.add_argument("--name", default="", metavar="NAME", help="in MLflow; default: the model's")
    push.add_argument("--alias", default="", metavar="NAME", help="for the new version, such as champion")

    size = parser.add_command(
        "size",
        "the memory that a model needs in the clouds, and what it costs there",
        "digits --models models",
        "digits --write cdk.json",
    )
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

    migrate = parser.add_command(
        "migrate", "make and maintain the tables of the request log", "--writer inferry_writer", "--every 3600"
    )
    migrate.add_argument(
        "--writer", action="append", default=[], metavar="ROLE", help="let this role insert; may be repeated"
    )
    migrate.add_argument("--every", type=_count, default=0, metavar="SECONDS", help="go on; default: once")

    parser.add_command("key", "make an API key, and its digest for API_KEYS")

    completion = parser.add_command("completion", "what a shell needs to complete inferry's commands", "bash", "zsh")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), metavar="SHELL", help="bash, zsh or tcsh")
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
    for name, said in DIALECT.items():
        parser.add_argument(f"--{name}", default="", metavar="TEXT" if name == "null" else "CHARACTER", help=said)
    parser.add_argument(
        "--header", action=argparse.BooleanOptionalAction, help="whether the first line of CSV names the columns"
    )


def _names(text: str) -> tuple[str, ...]:
    """The names in a list that is separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _input(text: str) -> "Input":
    from inferry.origins.origin import parse_input

    return parse_input(text)


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise ValueError(text)
    return old, new


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


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count
