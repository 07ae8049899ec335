"""Predicts a Parquet file with Spark on this machine: python on_spark.py IN OUT MODELS MODEL OPTIONS, which is JSON.

Of OUT, a folder, Spark writes one file. It prints, as JSON, what one worker says of all its sessions.
"""

import json
import os
import sys

from inferry.jobs.engines import Predict
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

source, target, models, model, options = sys.argv[1:]
os.environ["PYSPARK_PYTHON"] = sys.executable
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.execution.arrow.maxRecordsPerBatch", 7)
    .getOrCreate()
)
rows = spark.read.parquet(source)
predict = Predict(models, model, **json.loads(options))
schema = from_arrow_schema(predict.schema(rows.limit(0).toArrow().schema))
predicted = rows.repartition(4, "n").mapInArrow(predict.batches, schema)
predicted.coalesce(1).write.parquet(target)
spark.stop()
