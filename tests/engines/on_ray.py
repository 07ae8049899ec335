"""Predicts a Parquet file with Ray on this machine: python on_ray.py IN OUT MODELS MODEL OPTIONS, which is JSON."""

import json
import sys

import ray
from inferry.jobs.engines import Predict

source, target, models, model, options = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=100 << 20)
rows = ray.data.read_parquet(source)
predicted = rows.map_batches(
    Predict,
    fn_constructor_args=(models, model),
    fn_constructor_kwargs=json.loads(options),
    batch_format="pyarrow",
    batch_size=7,
    concurrency=1,
)
predicted.write_parquet(target)
ray.shutdown()
