"""What became of a batch job: the content of NAME.report.json."""

from dataclasses import dataclass

import orjson

from inferry import __version__

FINISHED, UNFINISHED, STOPPED, FAILED = "finished", "unfinished", "stopped", "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """`rows` counts those with a result, `errors` those without; `state` is one of the four above, `reason` says why.

    `key` stands for the input's content, the model's files and the options: the same key means the same results.
    `seconds` is the time that all invocations took together.
    """

    state: str
    input: str
    output: str
    rows: int
    errors: int
    seconds: float
    model: str
    model_version: str
    model_digest: str
    input_etag: str
    key: str
    reason: str = ""
    program: str = f"inferry {__version__}"

    @property
    def finished(self) -> bool:
        """False when the job has to be run again to go on."""
        return self.state != UNFINISHED

    @property
    def failure(self) -> str:
        """Why a file that is finished counts as failed all the same; "" when it doesn't."""
        return no_results(self.output, self.rows, self.errors)

    def to_json(self) -> bytes:
        """The report as a document of JSON, which `from_json` reads."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, content: bytes) -> "Report | None":
        """The report; None when the content is none of ours."""
        try:
            return cls(**orjson.loads(content))
        except (orjson.JSONDecodeError, TypeError):
            return None


def no_results(output: str, rows: int, errors: int) -> str:
    """Says of a finished file that it has nothing but errors; "" when it has results, or no rows."""
    return "" if rows or not errors else f"no row has a result; {output}.errors.jsonl says why"
