"""How a job would read its file, without predicting anything: columns to inputs, and the first rows."""

from collections.abc import Iterator

from inferry.jobs.formats.blocks import Block, Cursor, Pace
from inferry.jobs.job import Job
from inferry.jobs.job_run import JobRun
from inferry.protocol.tensors import Array
from inferry.service import Service

ROWS = 2
# Characters of a row's values that are shown.
_WIDTH = 60


def preview(job: Job, service: Service) -> list[str]:
    """Lines that say it. InvalidFile and others of ours for a file that would be refused."""
    model = service.repository.get(service.default_model(job.model), job.version)
    with model.in_use():
        work = JobRun(job, model, service)
        with work.opened() as file:
            reader = work.reader(file, Pace(ROWS))
            if reader.has_requests:
                return [f"requests of the protocol for model '{model.name}'"]
            said = [
                f"{', '.join(names[:20])}{' ...' if len(names) > 20 else ''} -> {spec.name} "
                f"({spec.datatype.name}, rows have {spec.rows})"
                for names, spec in reader.inputs
            ]
            said += [f"kept: {column} -> {name}" for name, column in work.kept.items()]
            taken = {*work.kept.values(), *(name for names, _ in reader.inputs for name in names)}
            if unused := [name for name in reader.names if name not in taken]:
                said.append(f"left out: {', '.join(unused)}")
            for chunk in reader.chunks(Cursor(), ROWS):
                for block in chunk():
                    said += _rows(block)
            return said


def _rows(block: Block) -> Iterator[str]:
    """The block's rows by their numbers, each with its values or with the reason why it has none."""
    found = {
        rejected.row: f"refused: {f'column {rejected.column!r}: ' if rejected.column else ''}{rejected.reason}"
        for rejected in block.rejected
    }
    for group in block.groups:
        positions = range(len(block.rows)) if group.positions is None else group.positions.tolist()
        for at, position in enumerate(positions):
            values = [f"{name} = {_shown(array[at : at + 1])}" for name, array in group.feed.items()]
            found[int(block.rows[position])] = ", ".join(values)
    for row in sorted(found)[:ROWS]:
        yield f"row {row}: {found[row]}"


def _shown(row: Array) -> str:
    text = str(row.reshape(-1)[:_WIDTH].tolist() if row.size > 1 else row.reshape(-1).tolist()[0])
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."
