"""A table of Delta Lake or Iceberg as the input of a job: a snapshot of it, written as Parquet beside the results."""

from dataclasses import replace
from pathlib import Path

from inferry.errors import InvalidRequest, InvalidSettings, extra
from inferry.jobs.file_names import Table, tables
from inferry.jobs.job import Job
from inferry.jobs.runs.plan import is_folder
from inferry.storage.files import keep_apart, open_files, split
from inferry.storage.stored import HIDDEN

FOLDER = f"{HIDDEN}/snapshots"


def exported(job: Job, wanted: str = "") -> Job:
    """The job over a file with the rows of the table that is its input; the same job where that is no table.

    `wanted`: a version, or a time of ISO 8601 with its zone; the latest by default. The file stays, so that the job
    can go on from what is done. InvalidRequest, InvalidFile, NotSupported; InvalidSettings without the extra `tables`.
    """
    table = _table(job.input)
    if table is None:
        if wanted:
            raise InvalidRequest(f"--snapshot is for tables of Delta and Iceberg in folders here; {job.input} is none")
        return job
    keep_apart(job.input, job.output)
    try:
        from inferry.jobs.formats import snapshots

        snapshot = snapshots.open_snapshot(table.kind, table.folder, wanted)
    except ImportError as exc:
        raise InvalidSettings(
            f"{table.refuse()}. Or have `inferry batch` read it on this machine: {extra('tables')}"
        ) from exc
    folder = f"{job.output.rstrip('/')}/" if is_folder(job.output) else split(job.output)[0]
    files = open_files(folder)
    path = f"{FOLDER}/{Path(table.folder).name}-v{snapshot.version}.parquet"
    if files.stat(path) is None:
        with files.write(path) as file:
            snapshots.write(snapshot, file, table.folder, table.kind)
    return replace(job, input=f"{folder}{path}", format="")


def _table(url: str) -> Table | None:
    """The table that a folder on this machine is, None for all else."""
    if "://" in url or not Path(url).is_dir():
        return None
    folder = f"{Path(url).absolute()}/"
    found = tables(open_files(folder).list(), folder).get("")
    return found if found and found.kind in ("Delta", "Iceberg") else None
