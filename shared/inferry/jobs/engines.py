"""Rows in the processes of Spark, Ray, or whatever else hands over Arrow's record batches."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from inferry.errors import InvalidRequest, InvalidSettings, TooManyErrors, extra
from inferry.jobs import kept_names
from inferry.jobs.constants import bind
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Rejected
from inferry.jobs.job import Job, check_columns
from inferry.jobs.predictor import Predictor
from inferry.runtime.model import Model
from inferry.runtime.verdicts import UNPROVEN
from inferry.service import Service
from inferry.settings import Settings

if TYPE_CHECKING:
    from inferry.jobs.formats.record_batches import BatchRows, BatchWriter

__all__ = ["Predict"]

_FILE = "the table"


@dataclass(frozen=True)
class Predict:
    """Predicts tables as `inferry batch` does files: `predict.batches` for Spark's mapInArrow, itself for Ray's
    map_batches.

    `models`: the repository's folder or URL, which every worker must reach; `model`: a name, empty for the default one;
    `keep`, `columns`, `drop`, `constants`, `batch_size`: as in a `Job`; `error_column`: the name of a column that says
    why a row has no result. Without it, the first such row is an error.

    Each process loads the model once, with the environment's settings. Threads of its session: INTRA_OP_THREADS, else
    OMP_NUM_THREADS, which both engines set to the CPUs of a task, else all CPUs.
    """

    models: str
    model: str = ""
    _: KW_ONLY
    version: str | None = None
    keep: Sequence[str] = ()
    columns: Sequence[str] = ()
    drop: Sequence[str] = ()
    constants: Sequence[str] = ()
    batch_size: int = 0
    error_column: str = ""

    def __post_init__(self) -> None:
        for name in ("keep", "columns", "drop", "constants"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """For each pyarrow.RecordBatch one with all of its rows, in order.

        InvalidFile, InvalidRequest, NotSupported, ModelNotFound, ModelUnavailable; TooManyErrors for a row without a
        result where there is no `error_column`.
        """
        before = 0
        for batch in batches:
            yield _open(self, batch.schema).predicted(batch, before)
            before += len(batch)

    def __call__(self, table: Any) -> Any:
        """The same of a pyarrow.Table. InvalidRequest for all else."""
        if not hasattr(table, "to_batches"):
            raise InvalidRequest(
                f"expected a pyarrow.Table, got {type(table).__name__}: give Ray's map_batches batch_format='pyarrow', "
                "and Spark's mapInArrow predict.batches"
            )
        from inferry.jobs.formats.record_batches import as_table

        return as_table(list(self.batches(table.combine_chunks().to_batches())), self.schema(table.schema))

    def schema(self, given: Any) -> Any:
        """The pyarrow.Schema of the results of tables with the schema `given`; loads the model."""
        return _open(self, given).writer.schema


class _Opened:
    """A model with the columns of a table."""

    def __init__(
        self, model: Model, predictor: Predictor, reader: "BatchRows", writer: "BatchWriter", strict: bool
    ) -> None:
        """`strict`: a row without a result is an error."""
        self._model, self._predictor, self._reader, self.writer = model, predictor, reader, writer
        self._strict = strict

    def predicted(self, batch: Any, before: int) -> Any:
        """The batch's results; `before`: rows that the process has predicted of the same table already."""
        table = self._reader.plain(batch)
        block = self._reader.block(table, before)
        with self._model.in_use():
            predicted = self._predictor.predict(block)
        if predicted.rejected and self._strict:
            raise _failed(predicted.rejected[0])
        return self.writer.rows(table, predicted)


def _failed(rejected: Rejected) -> TooManyErrors:
    column = f"column '{rejected.column}': " if rejected.column else ""
    return TooManyErrors(
        f"row {rejected.row} of a part of the table has no result: {column}{rejected.reason}. To have such rows in the "
        "results, with the reason in a column of its own, name that column: error_column='error'"
    )


def _open(predict: Predict, schema: Any) -> _Opened:
    """Opened once, whichever of the process's threads comes first."""
    with _opening:
        return _opened(predict, schema)


_opening = threading.Lock()


# A process meets few tables; what it has opened is small but for the model, which is the service's.
@lru_cache(maxsize=16)
def _opened(predict: Predict, schema: Any) -> _Opened:
    try:
        from inferry.jobs.formats.record_batches import BatchRows, BatchWriter
    except ImportError as exc:
        raise InvalidSettings(f"tables of engines need pyarrow: {extra('batch')}") from exc

    service = _service(predict.models)
    model = service.repository.get(service.default_model(predict.model), predict.version)
    model = bind(model, predict.constants)
    job = Job(input="", output="", columns=tuple(predict.columns))
    check_columns(job, model)
    predictor = Predictor(model, predict.batch_size, service.settings.model_timeout)
    predictor.check_rows()
    # The columns of results depend on it, and must be the same in all processes.
    if model.row_proof.verdict.rows == UNPROVEN:
        model.prove_rows()
    apart = tuple(dict.fromkeys((*kept_names.named(predict.keep), *predict.drop)))
    options = ReadOptions(model, (), predictor.pace, _FILE, columns=tuple(predict.columns), apart=apart)
    kept = kept_names.columns(predict.keep, model, BatchRows(schema, options).names, predict.drop)
    reader = BatchRows(schema, replace(options, keep=tuple(dict.fromkeys(kept.values()))))
    writer = BatchWriter(model, kept, reader, predict.error_column)
    return _Opened(model, predictor, reader, writer, strict=not predict.error_column)


@lru_cache
def _service(models: str) -> Service:
    """One for the process, which ends with it."""
    settings = replace(Settings.from_env(os.environ), model_path=models)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if not settings.intra_op_threads and threads.isdecimal():
        settings = replace(settings, intra_op_threads=int(threads))
    return Service.from_settings(settings)
