"""A version that becomes a model: its digest compared, its session made, its labels and rows checked, warmed up."""

import logging
import time

from inferry import process
from inferry.errors import InferryError, InvalidModel
from inferry.observability.stats import ModelStats
from inferry.protocol import class_names
from inferry.protocol.signature import Signature
from inferry.repository.content import Content
from inferry.runtime import onnx_file
from inferry.runtime.model import WARM_UP_TIMEOUT, Model
from inferry.runtime.model_config import ModelConfig
from inferry.runtime.row_proof import RowProof
from inferry.runtime.scheduler import Kind, kind_of
from inferry.runtime.session import Session, SessionOptions
from inferry.runtime.verdicts import PROVEN, UNPROVEN, Verdicts

log = logging.getLogger("inferry")

# Bytes of a model whose load leaves enough freed memory behind to be worth giving back.
LARGE = 4 << 20


def load(
    name: str,
    version: str,
    content: Content,
    config: ModelConfig,
    threads: int,
    stats: ModelStats,
    verdicts: Verdicts | None = None,
    shared: bool = False,
) -> Model:
    """Loads a version's content, after a look at its digest, and warms it up. InvalidModel says why not.

    `shared`: its config is that of other versions as well.
    """
    expected = config.sha256.get(version)
    known = (content.digest, content.form.manifest) if content.form else (content.digest,)
    if expected and expected.lower() not in known:
        files = f"the files {', '.join(content.names)} were" if len(content.names) > 1 else "the file was"
        raise InvalidModel(
            f"the SHA-256 of model '{name}' version {version} is {content.digest}, but its config.json names "
            f"{expected}: {files} changed or not copied whole; put the right one in place, or correct config.json"
        )
    is_native = content.form is not None and content.form.kind == "native"
    options = SessionOptions(threads, config.max_batch_size, config.threads, is_native)
    session = Session(content.model, content.file, name, options)
    if content.agree:
        session.notes += content.agree(session.signature)
    if content.size >= LARGE:
        process.trim()
    what = f"version {version} of model '{name}'"
    class_names.check(config.labels, session.signature, what, shared)
    config = _settled(config, session.signature, what, shared)
    dynamic = content.file.numerics.dynamic
    proof = RowProof(session, content.digest, config.rows == "joined", verdicts, dynamic)
    facts = (content.digest, content.size)
    model = Model(name, version, config, session, *facts, stats, proof, content.form, content.hashed)
    if config.response_cache.enable:
        model.random = onnx_file.random_operators(content.model)
        model.keeps_responses = not model.random
        if model.random:
            log.warning(
                "no responses of model '%s' version %s are kept, as its config.json asks: %s gives something else each "
                "time",
                *(name, version, ", ".join(model.random)),
            )
    if config.warm_up:
        model.warm_run = _warm_up(model)
    if config.dynamic_batching:
        _check_batching(model)
    stats.serves(batched=config.max_batch_size > 0, keeps_responses=model.keeps_responses)
    return model


def _settled(config: ModelConfig, signature: Signature, what: str, shared: bool) -> ModelConfig:
    """The config with what the signature says of its images, boxes and sound. InvalidModel where they don't fit it.

    Each is imported where there is something of it: most models have none.
    """
    if config.preprocess:
        from inferry.runtime import preprocess

        config = config._replace(preprocess=preprocess.settled(config.preprocess, signature, what, shared))
    if config.postprocess:
        from inferry.runtime import boxes

        labels = {name: config.labels.get(name) or spec.labels for name, spec in signature.outputs.items()}
        config = config._replace(postprocess=boxes.settled(config.postprocess, signature, labels, what, shared))
    if config.sound:
        from inferry.runtime import sound

        config = config._replace(sound=sound.settled(config.sound, signature, what, shared))
    return config


def _warm_up(model: Model) -> tuple[int, Kind | None]:
    """Runs the config's example twice: the first run allocates, the second tells what a request will take."""
    signature = model.session.signature
    try:
        feed = model.example()
        deadline = time.monotonic() + WARM_UP_TIMEOUT
        arrays = model.session.run(feed, list(signature.outputs), deadline)
        start = time.perf_counter_ns()
        model.session.run(feed, list(signature.outputs), deadline)
    except InferryError as exc:
        raise InvalidModel(f"the example in config.json of model '{model.name}' can't be run: {exc}") from exc
    took = time.perf_counter_ns() - start
    what = f"version {model.version} of model '{model.name}'"
    class_names.check_run(model.config.labels, signature, arrays, what)
    return took, kind_of(feed, tuple(signature.outputs))


def _check_batching(model: Model) -> None:
    """InvalidModel where requests can't be joined; without inputs that the model runs with they just are not."""
    verdict = model.prove_rows()
    if verdict.rows == UNPROVEN:
        log.warning(
            "model '%s' runs without dynamic_batching: nothing shows that its rows may be joined, as it ran with no "
            "random input; give config.json an 'example'",
            model.name,
        )
    elif verdict.rows != PROVEN:
        raise InvalidModel(
            f"config.json of model '{model.name}' sets dynamic_batching, but its rows can't run together: "
            f'{verdict.reason}. Remove dynamic_batching, or set "rows": "joined" if that is no fault'
        )
