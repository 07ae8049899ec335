"""PyTorch's exported programs, by its exporter of ONNX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.origins import renamed
from inferry.origins.origin import Origin, Wish, needed
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array


def open_file(path: Path, wish: Wish) -> Origin:
    """The program in a file of `torch.export.save`. InvalidRequest without the user's word, as PyTorch may unpickle."""
    if not wish.trusts:
        raise InvalidRequest(
            f"{path} is an archive of PyTorch, which may hold pickles: whoever made it can run any code as "
            "it is loaded. Say --trust if you know where it comes from"
        )
    torch = needed("torch", path)
    needed("onnxscript", path)
    try:
        program = torch.export.load(path)
    except Exception as exc:
        raise InvalidRequest(f"{path} can't be loaded: {type(exc).__name__}: {exc}") from exc
    onnx = _exported(torch, program, path)
    module = program.module()

    def answers(feed: Feed) -> Mapping[str, Array]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(np.array(array)) for array in feed.values()))
        flat, _ = torch.utils._pytree.tree_flatten(found)
        return dict(zip(renamed.outputs(onnx), (each.numpy() for each in flat), strict=True))

    return Origin(onnx, f"PyTorch {torch.__version__}", answers)


def _exported(torch: Any, program: Any, path: Path) -> bytes:
    logging.disable(logging.WARNING)  # it names every operator of packages that are not there
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            made = torch.onnx.export(program, dynamo=True, verbose=False)
        content: bytes = made.model_proto.SerializeToString()
    except Exception as exc:
        raise InvalidRequest(
            f"PyTorch can't export {path}: {' '.join(str(exc).split())[:1000]}. Weights over 2 GB go into a file "
            "beside it: export it with external_data=True, and import the .onnx with --against"
        ) from exc
    finally:
        logging.disable(logging.NOTSET)
    return content
