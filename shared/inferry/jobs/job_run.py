"""A job over its file: read, predicted, written; what was done is not done again."""

import hashlib
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from inferry.cpus import session_threads
from inferry.errors import (
    InferryError,
    InvalidFile,
    InvalidRequest,
    InvalidSettings,
    JobFailed,
    NotSupported,
    StoreError,
    TooManyErrors,
)
from inferry.jobs import constants, image_files, kept_names
from inferry.jobs.formats import formats
from inferry.jobs.formats.block_builder import Dialect, ReadOptions
from inferry.jobs.formats.blocks import Cursor, Pace, Reader
from inferry.jobs.formats.formats import Format
from inferry.jobs.job import Job, check_columns, format_of, target_of
from inferry.jobs.part_writer import PART_SECONDS, Counts, Limits, PartWriter, Progress
from inferry.jobs.places import Place
from inferry.jobs.predictor import Predictor
from inferry.jobs.report import FAILED, FINISHED, STOPPED, UNFINISHED, Report
from inferry.jobs.results import Part, Results
from inferry.runtime.model import Model
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage.files import open_files, split
from inferry.storage.stored import StoredFile

log = logging.getLogger("inferry")

# Of a job that was ended in the middle: rows of a block the second time, and after that; and seconds after which what
# was done is kept. A block that outlasts the host's patience would end it at the same place each time.
CAREFUL, MOST_CAREFUL = 8, 1
CAREFUL_SECONDS = 1.0
# Bytes of the images of a block, decoded; each thread has one or two blocks.
IMAGE_BYTES = 16 << 20
# Options that came later: where they aren't given, what was done before they came stays done.
_LATER = ("columns", "constants", "drop", *Dialect._fields)


class JobRun:
    """A job with its files found: what it reads, where its results are, and what they are called."""

    def __init__(self, job: Job, model: Model, service: Service) -> None:
        self._job = job
        self._model = constants.bind(model, job.constants)
        folder, path = split(job.input)
        self._images = image_files.find(job.input) if image_files.are_meant(job.input, model) else None
        if self._images is None:
            image_files.check_taken(job, model)
        self._source = self._images.files if self._images else open_files(folder)
        path = self._images.name if self._images else path
        found = self._images.stored if self._images else self._source.stat(path)
        if found is None:
            raise InvalidFile(f"there is no file {job.input}")
        self._input = found
        self._from = formats.IMAGES if self._images else format_of(job.format, path)
        self._to, target = target_of(job, self._from, path)
        self._place = Place(self._source, job.input, target, self._to)
        # With one format for all, all names become longer or none does.
        if job.to and not job.format and job.output.endswith("/") and self._to == self._from:
            self._place.check_neighbour()
        self.kept: dict[str, str] = {}
        """The columns to carry over by the names that they get, once the file is open."""
        self.partition: dict[str, Any] = {}
        """Those of them that are keys of Hive's partitions, with their values."""
        self._metrics = service.metrics
        settings = service.settings
        self._timeout = settings.model_timeout
        self._threads = _threads(settings)
        output, name = split(target)
        self._results = Results(open_files(output), name, _key(job, self._input, model, self._to, name))

    def earlier(self) -> Report | None:
        """The report when the job is done already. TooManyErrors when it was stopped for them."""
        report = self._results.report()
        if report is None or report.key != self._results.key:
            if report and self._job.output.endswith("/"):
                self._place.check_owner(report.input)
            return None
        if report.state == STOPPED:
            raise TooManyErrors(report.reason)
        if report.state != FINISHED:
            return None
        # What a worker left that was killed behind its last word, or that was a little late.
        self._clean_up(others=False)
        return report

    def _clean_up(self, others: bool) -> None:
        """Removes parts that nobody needs. What was done stays done if that fails; the next job tries it again."""
        try:
            self._results.forget(others)
        except StoreError as exc:
            log.warning("job %s: parts of its results are left behind: %s", self._job.input, exc)

    @property
    def size(self) -> int:
        """The size of the input in bytes."""
        return self._input.size

    def is_worth_cutting(self, size: int) -> bool:
        """Whether it has more than so many bytes, and slices of it can be read."""
        return self.size > size and self._from.is_sliced

    def reader(self, file: BinaryIO, pace: Pace) -> Reader:
        """A reader of the input's rows, which `file` is; `pace` tells it how many rows a block may have."""
        job = self._job
        check_columns(job, self._model)
        partition = kept_names.partition(job.input)
        apart = tuple(name for name in kept_names.named(job.keep) if name not in partition)
        dialect = Dialect(job.delimiter, job.decimal, job.quote, job.escape, job.null)
        dialect.check()
        options = ReadOptions(self._model, (), pace, job.input, job.header, job.columns, (*apart, *job.drop), dialect)
        if not job.keep:
            return self._checked(formats.open_reader(self._from, file, options))
        found: tuple[str, ...] = ()
        if partition or kept_names.ALL in job.keep:
            # A column of the file goes before a folder of the same name.
            found = formats.open_reader(self._from, file, replace(options, apart=job.drop)).names
            partition = {name: value for name, value in partition.items() if name not in found}
            file.seek(0)
        self.kept = kept_names.columns(job.keep, self._model, (*found, *partition), job.drop)
        self.partition = {name: partition[name] for name in self.kept.values() if name in partition}
        apart = tuple(name for name in kept_names.named(job.keep) if name not in self.partition)
        columns = tuple(dict.fromkeys(name for name in self.kept.values() if name not in self.partition))
        options = replace(options, keep=columns, apart=tuple(dict.fromkeys((*apart, *job.drop))))
        return self._checked(formats.open_reader(self._from, file, options))

    def _checked(self, reader: Reader) -> Reader:
        """The reader. InvalidRequest when the file has a column of a constant's name: both can't be meant."""
        both = [name for name in constants.names(self._job.constants) if name in reader.names]
        if both and both[0] not in self._job.drop:
            raise InvalidRequest(
                f"{self._job.input} has a column '{both[0]}', but --set gives that input: leave out --set, or --drop "
                f"{both[0]}"
            )
        return reader

    def opened(self) -> BinaryIO:
        """The input, opened to read its bytes."""
        return cast("BinaryIO", self._images.opened()) if self._images else self._source.open(self._input)

    def run(self, until: float | None, progress: Callable[[Progress], None], attempt: int = 1) -> Report:
        """Does what is left. Errors of the file leave a report too."""
        part_writer = None
        middle = None if until is None else (time.monotonic() + until) / 2
        try:
            with expected(self._job), self.opened() as file:
                part_writer = self._part_writer(file, until, progress, attempt)
                return self._made(part_writer, middle)
        except TooManyErrors as exc:
            if part_writer:
                self._results.publish_errors(part_writer.parts, part_writer.memory)
                self._ended(self._report(STOPPED, part_writer.parts, str(exc)))
                self._clean_up(others=True)
            self._count_file(failed=True)
            raise
        except (InvalidRequest, NotSupported, InvalidSettings, JobFailed) as exc:
            with suppress(StoreError):
                self._ended(self._report(FAILED, [], str(exc)))
            self._count_file(failed=True)
            raise
        finally:
            if part_writer:
                self._metrics.job_rows(
                    self._model.name, self._model.version, part_writer.made.rows, part_writer.made.errors
                )

    def _made(self, part_writer: PartWriter, middle: float | None) -> Report:
        """Parts that were made until after the `middle` of the time are published by the next run, which has it all."""
        part = self._job.part
        if not (part_writer.some(part.start, part.stop) if part else part_writer.all()):
            return self._report(UNFINISHED, part_writer.parts)
        if part:
            return self._report(FINISHED, part_writer.parts)
        late = (
            middle is not None
            and time.monotonic() > middle
            and part_writer.made != Counts()
            and part_writer.memory is None
        )
        return self._report(UNFINISHED, part_writer.parts) if late else self._publish(part_writer)

    def _count_file(self, failed: bool) -> None:
        self._metrics.job_file(self._model.name, self._model.version, failed)

    def _part_writer(
        self, file: BinaryIO, until: float | None, progress: Callable[[Progress], None], attempt: int
    ) -> PartWriter:
        most = {1: _most_images(self._model), 2: CAREFUL}.get(attempt, MOST_CAREFUL)
        predictor = Predictor(self._model, self._job.batch_size, self._timeout, most)
        reader = self.reader(file, predictor.pace)
        keep = self.kept
        if keep and reader.has_requests:
            raise NotSupported("requests of the protocol have no columns that --keep could carry over")
        if not reader.has_requests:
            predictor.check_rows()
            self._settle(reader, predictor)
        types = {name: reader.kept[column] for name, column in keep.items() if column in reader.kept}
        constants = {name: self.partition[column] for name, column in keep.items() if column in self.partition}
        types |= {name: np.asarray(value).dtype for name, value in constants.items() if value is not None}
        writer = formats.open_writer(self._to, self._model, tuple(keep), reader.has_requests, types)
        if keep:
            kept_names.check_header(writer.header(), keep)
        limits = Limits(until, self._job.max_errors, PART_SECONDS if attempt == 1 else CAREFUL_SECONDS)

        def share(end: Cursor) -> float:
            """Where the file doesn't say how many rows it has, its bytes up to `end` tell; what was read is ahead."""
            is_text = self._from.name in formats.COMPRESSED and not self._from.compression
            position = end.offset if is_text else file.tell()
            done = end.row / max(reader.total, 1) if reader.total is not None else position / self._input.size
            return min(done, 1.0)

        return PartWriter(
            reader, predictor, writer, keep, self._results, limits, progress, share, self._threads, self.partition
        )

    def _settle(self, reader: Reader, predictor: Predictor) -> None:
        """Asks whether the model's rows are rows while nothing is written yet; JSON can hold whatever they are."""
        if self._to.name != "jsonl" and not predictor.is_settled:
            chunk = next(iter(reader.chunks(Cursor(), predictor.pace.rows)), None)
            for block in chunk() if chunk else ():
                predictor.settle(block)

    def _publish(self, part_writer: PartWriter) -> Report:
        # Of images each was looked at when it was read.
        if self._images is None and self._source.stat(self._input.path) != self._input:
            raise StoreError(f"{self._job.input} was replaced while it was predicted: run the job again")
        start = time.monotonic()
        try:
            self._results.publish(part_writer.parts, part_writer.writer, part_writer.memory)
        except StoreError:
            # Of two workers the other was first, and removed the parts.
            if (report := self.earlier()) is None:
                raise
            return report
        report = self._report(FINISHED, part_writer.parts)
        report = self._ended(replace(report, seconds=round(report.seconds + time.monotonic() - start, 3)))
        self._clean_up(others=True)
        self._count_file(failed=bool(report.failure))
        return report

    def _ended(self, report: Report) -> Report:
        """The file is done with, well or not: the report that counts."""
        fields = {
            "input": report.input,
            "output": report.output,
            "outcome": report.state,
            "rows": report.rows,
            "row_errors": report.errors,
            "duration_ms": round(report.seconds * 1000, 3),
            "model": report.model,
            "version": report.model_version,
        }
        is_good = report.state == FINISHED and not report.failure
        said = report.reason or report.failure or report.state
        log.log(logging.INFO if is_good else logging.WARNING, "job %s: %s", report.input, said, extra=fields)
        return self._results.commit(report)

    def _report(self, state: str, parts: list[Part], reason: str = "") -> Report:
        return Report(
            state=state,
            input=self._job.input,
            output=self._results.url,
            rows=sum(part.rows for part in parts),
            errors=sum(part.errors for part in parts),
            seconds=round(sum(part.seconds for part in parts), 3),
            model=self._model.name,
            model_version=self._model.version,
            model_digest=self._model.digest,
            input_etag=self._input.identity,
            key=self._results.key,
            reason=reason,
        )


@lru_cache(maxsize=16)
def _threads(settings: Settings) -> int:
    """Asked once: the answer is in several files, which of 10,000 small jobs took a sixth of the time."""
    return session_threads(settings)


def _most_images(model: Model) -> int:
    """Rows of a block of images, which are large beside those of tables; 0 where there are none."""
    size = sum(
        math.prod(how.row) * model.signature.inputs[name].datatype.dtype.itemsize
        for name, how in model.preprocess.items()
        if name in model.signature.inputs
    )
    return max(IMAGE_BYTES // size, 1) if size else 0


def _key(job: Job, file: StoredFile, model: Model, to: Format, name: str) -> str:
    """Stands for everything that the results depend on."""
    content = (file.path, file.size, file.identity, model.name, model.version, model.digest)
    options: tuple[Any, ...] = (job.format, to, job.keep, job.max_errors, job.batch_size, name, job.header)
    options += tuple((item, value) for item in _LATER if (value := getattr(job, item)))
    if model.preprocess:
        options += (("preprocess", sorted(model.preprocess.items())),)
    return hashlib.sha256(repr((content, options)).encode()).hexdigest()[:40]


@contextmanager
def expected(job: Job) -> Iterator[None]:
    """Turns what nobody expected into JobFailed, so that it fails this file and no other."""
    try:
        yield
    except InferryError:
        raise
    except Exception as exc:
        log.exception("job %s: unexpected error", job.input)
        place = traceback.extract_tb(exc.__traceback__)[-1]
        raise JobFailed(
            f"unexpected {type(exc).__name__} ({Path(place.filename).name}, line {place.lineno}): {exc}; this "
            "is a bug: please report it, with the file if you can"
        ) from exc
