"""Seconds that Spark takes for the same rows with inferry and with a pandas UDF: python engines.py MODEL ROWS TURNS.

It runs in the environment of `make test-engines`. MODEL is that of `digits`, whose pixels are a column of lists, or a
column each. Prints samples as JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
from inferry.jobs.engines import Predict
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import array, pandas_udf, rand, struct
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import ArrayType, FloatType, LongType, StructType

PIXELS = 64
ANSWER = StructType().add("label", LongType()).add("probabilities", ArrayType(FloatType()))


def outputs(session: Any, pixels: Any) -> pd.DataFrame:
    label, probabilities = session.run(["label", "probabilities"], {"pixels": pixels})
    return pd.DataFrame({"label": label, "probabilities": list(probabilities)})


def opened() -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(MODEL, options)


def of_lists(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
    session = opened()
    for batch in batches:
        yield outputs(session, np.stack(batch.to_numpy()).astype(np.float32))


def of_columns(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    session = opened()
    for batch in batches:
        yield outputs(session, batch.to_numpy(np.float32))


def seconds(made: DataFrame) -> float:
    start = time.perf_counter()
    made.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - start


def main() -> None:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .getOrCreate()
    )
    values = [(rand(number) * 16).alias(f"p{number}") for number in range(PIXELS)]
    frames = {
        "columns": spark.range(0, ROWS, 1, 2).select(*values),
        "lists": spark.range(0, ROWS, 1, 2).select(array(*values).alias("pixels")),
    }
    ways: dict[str, Callable[[], DataFrame]] = {}
    for name, frame in frames.items():
        stored = frame.cache()
        stored.count()
        predict = Predict(str(Path(MODEL).parents[2]), "digits", version="2")
        schema = from_arrow_schema(predict.schema(stored.limit(0).toArrow().schema))
        pixels, udf = ("pixels", of_lists) if name == "lists" else (struct(*stored.columns), of_columns)
        ways[f"{name} inferry"] = partial(stored.mapInArrow, predict.batches, schema)
        ways[f"{name} udf"] = partial(stored.select, pandas_udf(udf, ANSWER)(pixels))
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            took = seconds(way())
            if turn:  # the first starts the workers
                samples[name].append(took)
    spark.stop()
    print(json.dumps(samples))


if __name__ == "__main__":
    MODEL, ROWS, TURNS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    main()
