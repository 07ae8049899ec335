"""Runs batch jobs from and to every format, with what is left of the packages: jobs.py.

A Parquet file becomes a file of each format, and each of these JSON Lines. Fails unless all of them say the same.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from inferry.jobs.formats.formats import COMPRESSED, FORMATS
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings

# Its only output, `features`, is twice its only input of three numbers, and so can be its next input.
MODELS, MODEL = Path(__file__).with_name("models"), "twice"
# The second row is wrong, and nothing is left of it but its error.
ROWS = {"id": pa.array(["a", "b", "c"]).dictionary_encode(), "x": [[1, 2.5, -3], [1], [0, 1e6, 7]]}
ANSWERS = {"a": "[4.0,10.0,-12.0]", "c": "[0.0,4000000.0,28.0]"}
# Arrays have no place for the columns that are kept.
ARRAYS = ("npy", "npz")
NAMES = (*FORMATS, *(f"{name}.{suffix}" for name in COMPRESSED for suffix in ("gz", "zst")))


def main() -> None:
    """Prints the formats that work."""
    service = Service.from_settings(Settings(model_path=str(MODELS)))
    with TemporaryDirectory() as folder:
        source = Path(folder, "rows.parquet")
        pq.write_table(pa.table(ROWS), source)
        for name in NAMES:
            there_and_back(source, name, service)
    service.close()
    print(f"jobs from and to {', '.join(NAMES)} work")


def there_and_back(source: Path, name: str, service: Service) -> None:
    """SystemExit with what the second job gave unless that is four times the numbers of `source`."""
    keep = () if name in ARRAYS else ("id",)
    middle, last = source.with_name(f"middle.{name}"), source.with_name(f"{name}.jsonl")
    run(Job(input=str(source), output=str(middle), model=MODEL, to=name, keep=keep), service)
    run(Job(input=str(middle), output=str(last), model=MODEL, to="jsonl", keep=keep), service)
    columns = [f'"id":"{key}",' if keep else "" for key in ANSWERS]
    wanted = [f'{{{kept}"features":{numbers}}}' for kept, numbers in zip(columns, ANSWERS.values(), strict=True)]
    if (found := last.read_text(encoding="utf-8").splitlines()) != wanted:
        raise SystemExit(f"a job by way of {name} gave {found}, not {wanted}")


if __name__ == "__main__":
    main()
