"""The line that the log has of each file of a batch job."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from inferry.errors import InferryError
from inferry.jobs.runner import Job, run
from inferry.observability import catalogue
from inferry.service import Service
from inferry.settings import Settings

GOOD = [json.dumps({"features": [1, 2, 3]})] * 3
# File, options, and of its line: level, outcome, rows, row errors.
CASES: dict[str, tuple[str, list[str], dict[str, Any], tuple[int, str, int, int]]] = {
    "finished": ("x.jsonl", GOOD, {}, (logging.INFO, "finished", 3, 0)),
    "row errors": ("x.jsonl", [*GOOD, '"no"'], {}, (logging.INFO, "finished", 3, 1)),
    "nothing but row errors": ("x.jsonl", ['"no"'] * 3, {}, (logging.WARNING, "finished", 0, 3)),
    "stopped": ("x.jsonl", ['"no"'] * 3, {"max_errors": 1}, (logging.WARNING, "stopped", 0, 2)),
    "failed": ("x.parquet", ["this is no Parquet"], {}, (logging.WARNING, "failed", 0, 0)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file(repository: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str) -> None:
    name, rows, options, expected = CASES[case]
    caplog.set_level(logging.INFO, "inferry")
    (tmp_path / name).write_text("\n".join(rows))
    service = Service.from_settings(Settings(model_path=repository({"m.onnx": onnx_models.scaled(2, 3)})))
    job = Job(input=str(tmp_path / name), output=f"{tmp_path}/out/", model="m", **options)
    try:
        run(job, service)
    except InferryError:
        assert expected[1] != "finished"
    finally:
        service.close()
    (record,) = [item for item in caplog.records if item.getMessage().startswith("job ")]
    line = vars(record)
    assert (record.levelno, line["outcome"], line["rows"], line["row_errors"]) == expected
    assert (line["input"], line["model"], line["version"]) == (job.input, "m", "1")
    assert line["output"].startswith(f"{tmp_path}/out/{name}")
    assert line["duration_ms"] >= 0
    counted = "success" if record.levelno == logging.INFO else "failed"
    [files] = [family for family in service.metrics.collect() if family.metric is catalogue.JOB_FILES]
    assert {labels: count for labels, count in files.series.items() if count} == {("m", "1", counted): 1}
