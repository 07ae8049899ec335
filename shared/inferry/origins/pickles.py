"""Models in pickles and in skops' files: what is in them is told by their class."""

import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inferry.errors import InvalidRequest
from inferry.origins.origin import COMPANIONS, Origin, Wish, needed


def open_file(path: Path, wish: Wish) -> Origin:
    """The estimator in a file. A pickle is not looked into without the user's word; InvalidRequest says so."""
    load = _skops if path.suffix.lower() == ".skops" else _pickle
    estimator = load(path, wish.trusts)
    # By the package of its class: what is in the file has imported it.
    for base in type(estimator).__mro__:
        package = base.__module__.partition(".")[0]
        if package in ("lightgbm", "xgboost", "catboost") and package in sys.modules:
            module = __import__(f"inferry.origins.{package}_models", fromlist=["of_model"])
            made: Origin = module.of_model(estimator, path, wish)
            return made
    if hasattr(estimator, "get_params") and (hasattr(estimator, "predict") or hasattr(estimator, "transform")):
        from inferry.origins import scikit_learn

        return scikit_learn.of_model(estimator, path, wish)
    raise InvalidRequest(f"{path} holds a {type(estimator).__name__}, and no estimator that could be made into ONNX")


def _pickle(path: Path, trusts: bool) -> Any:
    if not trusts:
        raise InvalidRequest(
            f"{path} is a pickle: whoever made it can run any code as it is loaded. Say --trust if you know where it "
            "comes from, or have it saved by skops.io.dump(model, 'model.skops')"
        )
    try:
        if path.suffix.lower() == ".joblib" or find_spec("joblib") is not None:
            return needed("joblib", path).load(path)
        with path.open("rb") as file:
            return pickle.load(file)  # noqa: S301
    except InvalidRequest:
        raise
    except ModuleNotFoundError as exc:
        name = (exc.name or "").partition(".")[0]
        if name in COMPANIONS:
            needed(name, path)
        raise InvalidRequest(
            f"{path} can't be loaded: {exc}. Run inferry in the environment that the model was trained in; PYTHONPATH "
            "names the folder of modules of your own"
        ) from exc
    except Exception as exc:
        raise InvalidRequest(f"{path} can't be loaded: {type(exc).__name__}: {exc}") from exc


def _skops(path: Path, trusts: bool) -> Any:
    skops = needed("skops.io", path)
    try:
        unknown = skops.get_untrusted_types(file=path)
        if unknown and not trusts:
            raise InvalidRequest(
                f"{path} holds types that skops doesn't know to be harmless: {', '.join(unknown)}. Say --trust if you "
                "know where it comes from"
            )
        return skops.load(path, trusted=unknown)
    except InvalidRequest:
        raise
    except Exception as exc:
        raise InvalidRequest(f"{path} can't be loaded: {type(exc).__name__}: {exc}") from exc
