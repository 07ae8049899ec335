"""`inferry prepare` over real models: what it makes, that it answers the same, and what of a harmed one is served."""

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import prepare_by_table
import prepared_models
import pytest
from inferry.cli import main as cli
from inferry.errors import ModelUnavailable
from inferry.observability import catalogue
from inferry.prepare import trials
from inferry.repository import content, digests, metadata
from inferry.repository import prepared as repository_prepared
from inferry.repository.digests import Digests, ship
from inferry.repository.repository import open_repository
from inferry.runtime import cpu_kind
from inferry.runtime.model import Model
from inferry.service import Service
from inferry.settings import Settings
from onnx import helper

COMMAND = (sys.executable, prepare_by_table.__file__)
CONV, PRODUCT = prepared_models.convolutions(), prepared_models.products()
CARD = json.dumps({"description": "reads", "example": {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}})


def with_external_data(model: bytes, folder: Path) -> None:
    """Writes model.onnx, its weights in files of their own."""
    folder.mkdir(parents=True)
    onnx.save(onnx.load_from_string(model), folder / "model.onnx", save_as_external_data=True, location="w.bin")


def random_answers() -> bytes:
    """Other ones for the same input each time."""
    noise = helper.make_node("RandomUniformLike", ["x"], ["noise"])
    add = helper.make_node("Add", ["x", "noise"], ["y"])
    tensors = [onnx_models.tensor(name, "FP32", ("batch", 3)) for name in "xy"]
    return onnx_models.model([noise, add], tensors[:1], tensors[1:])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    with_external_data(PRODUCT, folder / "product/1")
    files = {
        "conv/1/model.onnx": CONV,
        "conv/config.json": b'{"description": "convolves"}',
        "small.onnx": onnx_models.scaled(),
        "random.onnx": random_answers(),
        "broken/1/model.onnx": b"this is no model",
        "halved/1/model.onnx": onnx_models.model(
            [
                helper.make_node("Cast", ["x"], ["h"], to=10),
                helper.make_node("Cast", ["h"], ["y"], to=1),
            ],
            [onnx_models.tensor("x", "FP32", ("batch", 3))],
            [onnx_models.tensor("y", "FP32", ("batch", 3))],
        ),
    }
    return onnx_models.write(folder, files)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def prepare(source: Path, out: Path | str, cache: Path, *options: str) -> dict[str, Any]:
    """What the command says for machines, by model."""
    command = [*COMMAND, str(source), str(out), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(cache), check=False)
    assert done.returncode == 0, done.stderr
    return {model["name"]: model for model in json.loads(done.stdout)["models"]}


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "MODEL_CACHE_DIR": str(cache), "ORT_DISABLE_TELEMETRY": "1"}


def checksums(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Prepared:
    """A prepared repository, and what was said of it."""

    def __init__(self, source: Path, out: Path, cache: Path) -> None:
        before = checksums(source)
        self.out, self.cache = out, cache
        self.said = prepare(source, out, cache)
        self.source_is_untouched = checksums(source) == before


@pytest.fixture(scope="module")
def prepared(source: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(source, tmp_path_factory.mktemp("out") / "repository", cache)


@pytest.fixture
def copy(prepared: Prepared, tmp_path: Path) -> Path:
    """A copy that a test may harm."""
    return Path(shutil.copytree(prepared.out, tmp_path / "copy"))


def load(folder: Path, cache: Path, name: str = "conv") -> Model:
    return open_repository(str(folder), threads=1, cache=cache).get(name)


def answers(model: Model, name: str = "conv") -> bytes:
    (y,) = model.session.run({"x": prepared_models.INPUTS[name]}, ["y"], time.monotonic() + 60)
    return y.tobytes()


def kind(model: Model) -> str:
    assert model.form is not None
    return model.form.kind


def kept(model: dict[str, Any]) -> list[str]:
    return [form["form"] for form in model["forms"] if form["kept"] and form["form"] != "original"]


def harm(path: Path, change: Callable[[bytes], bytes]) -> None:
    """In place, as nobody may but who changes the mode first."""
    path.chmod(0o644)
    changed = change(path.read_bytes())
    with path.open("r+b") as file:
        file.write(changed)
        file.truncate()
    path.chmod(0o444)


def settle(path: Path) -> None:
    """Waits until its next change has another time."""
    while time.time_ns() - path.stat().st_ctime_ns < 50_000_000:
        time.sleep(0.01)


def flip(content: bytes) -> bytes:
    """One bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def form(folder: Path, kind: str, name: str = "conv") -> Path:
    (found,) = (folder / name / "1").glob(f"{kind}-*")
    return found


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any], name: str = "conv") -> None:
    """The manifest, changed."""
    path = folder / name / "1/prepared.json"
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture
def conv(source: Path, tmp_path: Path) -> Path:
    shutil.copytree(source / "conv", tmp_path / "models/conv")
    return tmp_path / "models"


# What is made


def test_what_becomes_of_each_model(prepared: Prepared) -> None:
    assert {name: model["status"] for name, model in prepared.said.items()} == {
        "broken": "copied",
        "conv": "prepared",
        "halved": "copied",
        "product": "prepared",
        "random": "copied",
        "small": "copied",
    }
    assert [kept(prepared.said[name]) for name in ("conv", "product", "small")] == [["portable", "native"]] * 2 + [[]]
    assert re.match("it can't be loaded: .*is not an ONNX file", prepared.said["broken"]["reason"])
    assert prepared.said["random"]["reason"].startswith("nothing can be proven: it gives other answers in each process")
    assert prepared.said["small"]["reason"] == "no form of it is worth keeping"


def test_a_form_has_the_bits_of_its_model(prepared: Prepared) -> None:
    forms = [form for model in prepared.said.values() for form in model["forms"]]
    assert {form["difference"] for form in forms} == {0}
    assert prepared.said["conv"]["cases"] == 2


def test_what_is_measured(tmp_path: Path, cache: Path) -> None:
    """By the command itself. How much it is depends on what else the machine does: more than nothing has to do."""
    models = onnx_models.write(tmp_path / "models", {"m/1/model.onnx": prepared_models.products(256)})
    command = [sys.executable, "-m", "inferry", "prepare", str(models), str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(cache), check=True)
    forms = json.loads(done.stdout)["models"][0]["forms"]
    assert [form["form"] for form in forms] == ["original", "portable", "native"]
    assert all(min(form["load"], form["run"]) > 0 for form in forms)
    assert forms[0]["private"] > 0


def test_the_source_is_not_written_to(prepared: Prepared) -> None:
    assert prepared.source_is_untouched


def test_a_model_that_is_not_prepared_is_copied_as_it_is(source: Path, prepared: Prepared) -> None:
    for name, path in (("small", "small.onnx"), ("broken", "broken/1/model.onnx")):
        assert (prepared.out / name / "1/model.onnx").read_bytes() == (source / path).read_bytes()
    assert (prepared.out / "conv/config.json").read_bytes() == (source / "conv/config.json").read_bytes()


def test_stack_traces_stay_where_the_model_was_trained(source: Path, prepared: Prepared) -> None:
    assert prepared_models.TRACE.encode() in (source / "conv/1/model.onnx").read_bytes()
    files = [path for path in (prepared.out / "conv").rglob("*") if path.is_file()]
    assert len(files) == 7
    assert not [path for path in files if prepared_models.TRACE.encode() in path.read_bytes()]


def test_a_second_run_does_nothing(source: Path, prepared: Prepared, cache: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in prepared.out.rglob("*")}

    before = times()
    assert {model["status"] for model in prepare(source, prepared.out, cache).values()} == {"unchanged"}
    assert times() == before


def test_a_second_run_does_what_changed(source: Path, copy: Path, cache: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "changed"))
    (changed / "small.onnx").write_bytes(onnx_models.scaled(3.0))
    harm(form(copy, "native") / "weights.bin", flip)
    said = prepare(changed, copy, cache)
    assert {name for name, model in said.items() if model["status"] != "unchanged"} == {"small", "conv"}
    assert (copy / "small/1/model.onnx").read_bytes() == onnx_models.scaled(3.0)
    assert kind(load(copy, cache)) == "native"
    assert [path.name for path in copy.iterdir() if path.name.startswith(".")] == []


def test_one_process_needs_no_native_form(conv: Path, tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "out"
    said = prepare(conv, out, cache, "--for", "one", "--keep-original")
    assert [form["form"] for form in said["conv"]["forms"]] == ["original", "portable"]
    folders = sorted(path.name.partition("-")[0] for path in (out / "conv/1").iterdir())
    assert folders == ["original", "portable", "prepared.json"]
    assert kind(load(out, cache)) == "portable"


def test_the_user_samples_are_cases(tmp_path: Path, cache: Path) -> None:
    models = onnx_models.write(tmp_path / "models", {"m/1/model.onnx": onnx_models.scaled()})
    np.save(tmp_path / "rows.npy", np.arange(300, dtype=np.float32).reshape(100, 3))
    without, sampled = (
        prepare(models, tmp_path / out, cache, *options)["m"]["cases"]
        for out, options in (("without", ()), ("with", ("--samples", str(tmp_path / "rows.npy"))))
    )
    assert (without, sampled) == (2, 2 + 4)  # 100 rows, 32 at a time


# What is served


def test_every_form_answers_as_the_model_does(source: Path, copy: Path, cache: Path) -> None:
    wanted = answers(load(source, cache))
    for name in ("native", "portable"):
        model = load(copy, cache)
        assert (kind(model), answers(model)) == (name, wanted)
        shutil.rmtree(form(copy, name))
    with pytest.raises(ModelUnavailable, match="run `inferry prepare` again"):
        load(copy, cache)


def test_a_form_that_lies_where_nobody_writes_is_not_copied(prepared: Prepared, tmp_path: Path) -> None:
    load(prepared.out, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["digests"]


def test_a_form_that_somebody_may_write_is_copied(copy: Path, source: Path, tmp_path: Path) -> None:
    weights = form(copy, "native") / "weights.bin"
    weights.chmod(0o644)
    model = load(copy, tmp_path / "cache")
    harm(weights, lambda content: bytes(len(content)))
    assert answers(model) == answers(load(source, tmp_path / "cache"))
    assert model.hashed


def test_the_log_says_which_form(prepared: Prepared, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "inferry"):
        load(prepared.out, cache)
    (line,) = caplog.messages
    assert re.fullmatch(r"loaded model 'conv' version 1 in \d+ ms, in its native form", line)


def test_metrics_say_which_form(prepared: Prepared, cache: Path) -> None:
    service = Service.from_settings(Settings(model_path=str(prepared.out), model_cache_dir=str(cache)))
    for name in ("conv", "small"):
        service.repository.get(name)
    (family,) = [family for family in service.metrics.collect() if family.metric is catalogue.LOADED_BYTES]
    service.close()
    assert family.series.keys() == {("conv", "1", "native"), ("small", "1", "plain")}


def test_metadata_has_both_digests(source: Path, prepared: Prepared, cache: Path) -> None:
    shown = metadata.metadata(load(prepared.out, cache), ["1"])
    plain = metadata.metadata(load(source, cache), ["1"])
    manifest = hashlib.sha256((prepared.out / "conv/1/prepared.json").read_bytes()).hexdigest()
    more = {"form": "native", "prepared_sha256": manifest}
    of_files = ("size", "hashed")
    assert {key: value for key, value in shown["properties"].items() if key not in of_files} == {
        **{key: value for key, value in plain["properties"].items() if key not in of_files},
        **more,
    }
    assert {**shown, "properties": {}} == {**plain, "properties": {}}


@pytest.mark.parametrize("which", ["source", "manifest"])
def test_a_pinned_digest_may_be_either(which: str, copy: Path, cache: Path) -> None:
    manifest = (copy / "conv/1/prepared.json").read_bytes()
    digests = {"source": hashlib.sha256(CONV).hexdigest(), "manifest": hashlib.sha256(manifest).hexdigest()}
    (copy / "conv/config.json").write_text(json.dumps({"sha256": {"1": digests[which]}}))
    assert kind(load(copy, cache)) == "native"
    (copy / "conv/config.json").write_text(json.dumps({"sha256": {"1": "0" * 64}}))
    with pytest.raises(ModelUnavailable, match="the SHA-256 of model 'conv' version 1 is"):
        load(copy, cache)


# What was harmed


def test_one_byte_changed_in_place_is_seen(copy: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    settle(form(copy, "native") / "weights.bin")
    assert load(copy, cache).hashed  # a copy is another file
    assert not load(copy, cache).hashed
    weights = form(copy, "native") / "weights.bin"
    before = weights.stat()
    harm(weights, flip)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kind(load(copy, cache)) == "portable"
    assert "served in its portable form: its native form does not fit: the SHA-256 of" in caplog.text
    harm(form(copy, "portable") / "weights.bin", flip)
    with pytest.raises(
        ModelUnavailable, match=r"its portable form does not fit: .* damaged or exchanged; run `inferry p"
    ):
        load(copy, cache)


def test_a_damaged_copy_in_the_cache_is_made_again(copy: Path, source: Path, tmp_path: Path) -> None:
    (form(copy, "native") / "weights.bin").chmod(0o644)
    load(copy, tmp_path / "cache")
    (weights,) = (tmp_path / "cache").glob("*/weights.bin")
    harm(weights, flip)
    model = load(copy, tmp_path / "cache")
    assert (kind(model), answers(model)) == ("native", answers(load(source, tmp_path / "cache")))


def only_float16(manifest: dict[str, Any]) -> None:
    manifest["forms"] = [{**manifest["forms"][0], "architecture": "z"}]


HARMS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "another onnxruntime": (
        lambda folder: rewrite(folder, lambda value: value.update(onnxruntime="1.0.0")),
        "",
        r"its portable form does not fit: it was made by onnxruntime 1\.0\.0, and this is",
    ),
    "another kind of CPU": (
        lambda folder: rewrite(folder, lambda value: value["forms"][1].update(cpu="x86_64 avx")),
        "portable",
        "as its native form is for other kinds of CPU",
    ),
    "a canary that says something else": (
        lambda folder: rewrite(folder, lambda value: value["forms"][1].update(canary=1.0)),
        "portable",
        "its native form does not fit: its canary says .* and not 1: it was made on another kind of CPU",
    ),
    "float16 of another architecture": (
        lambda folder: rewrite(
            folder, lambda value: value["forms"].pop() and value["forms"][0].update(architecture="z")
        ),
        "",
        "its float16 is for z, and this is",
    ),
    "a form that is missing": (
        lambda folder: shutil.rmtree(form(folder, "native")),
        "portable",
        "its native form does not fit: native-.*/model.onnx is missing",
    ),
    "a form that was cut off": (
        lambda folder: harm(form(folder, "native") / "weights.bin", lambda content: content[:-1]),
        "portable",
        "its native form does not fit: .* bytes, but the manifest names",
    ),
    "a form that was exchanged": (
        lambda folder: shutil.copy(form(folder, "portable") / "model.onnx", form(folder, "native") / "model.onnx"),
        "portable",
        "its native form does not fit",
    ),
    "a manifest that is cut off": (
        lambda folder: (folder / "conv/1/prepared.json").write_text('{"format": 1,'),
        "",
        "conv/1/prepared.json can't be read: .*; run `inferry prepare` again",
    ),
    "a manifest of another format": (
        lambda folder: rewrite(folder, lambda value: value.update(format=99)),
        "",
        "it has the format 99, not 1; run `inferry prepare` again",
    ),
    "a manifest of something else": (
        lambda folder: (folder / "conv/1/prepared.json").write_text("[]"),
        "",
        "conv/1/prepared.json can't be read: it lacks what a manifest has",
    ),
    "a path that leads out of the repository": (
        lambda folder: rewrite(folder, lambda value: value["forms"][1].update(folder="..")),
        "portable",
        "its native form does not fit: .* is missing",
    ),
}


@pytest.mark.parametrize("harmed", HARMS)
def test_what_does_not_fit(
    harmed: str, copy: Path, source: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change, served, said = HARMS[harmed]
    change(copy)
    with caplog.at_level(logging.INFO, "inferry"):
        if served:
            model = load(copy, cache)
            assert (kind(model), answers(model)) == (served, answers(load(source, cache)))
            assert re.search(said, caplog.text)
            return
        with pytest.raises(ModelUnavailable, match=said) as refused:
            load(copy, cache)
    assert "run `inferry prepare` again" in str(refused.value)


def test_a_form_that_can_not_be_loaded_after_all(copy: Path, source: Path, cache: Path) -> None:
    """Its bytes are what the manifest says, and ONNX Runtime refuses them."""
    junk = onnx_models.identity()[:-20]

    def change(value: dict[str, Any]) -> None:
        value["forms"][1]["files"]["model.onnx"] = {"size": len(junk), "sha256": hashlib.sha256(junk).hexdigest()}

    harm(form(copy, "native") / "model.onnx", lambda _: junk)
    rewrite(copy, change)
    model = load(copy, cache)
    assert (kind(model), answers(model)) == ("portable", answers(load(source, cache)))
    assert model.form is not None
    assert "its native form can't be loaded" in model.form.left_out[0]


def test_the_original_is_the_last_resort(source: Path, tmp_path: Path, cache: Path) -> None:
    shutil.copytree(source / "product", tmp_path / "models/product")
    out = tmp_path / "out"
    prepare(tmp_path / "models", out, cache, "--keep-original")
    rewrite(out, lambda value: value.update(onnxruntime="1.0.0"), "product")
    model = load(out, cache, "product")
    assert (kind(model), answers(model, "product")) == ("original", answers(load(source, cache, "product"), "product"))


# What was hashed


def test_inspect_hashes_all(prepared: Prepared, tmp_path: Path) -> None:
    load(prepared.out, tmp_path)
    weights = form(prepared.out, "native") / "weights.bin"
    (record,) = (tmp_path / "digests").iterdir()
    value = json.loads(record.read_bytes())
    assert value["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    record.write_text(json.dumps({**value, "sha256": "0" * 64}))
    assert kind(load(prepared.out, tmp_path)) == "portable"  # it believes the record
    found = open_repository(str(prepared.out), threads=1, cache=tmp_path, in_full=True).get("conv")
    assert (kind(found), found.hashed) == ("native", True)


def test_what_others_may_write_is_not_believed(prepared: Prepared, tmp_path: Path) -> None:
    load(prepared.out, tmp_path)
    (record,) = (tmp_path / "digests").iterdir()
    record.chmod(0o666)
    assert load(prepared.out, tmp_path).hashed


def test_on_a_read_only_mount_sizes_have_to_do(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_prepared, "is_safe", lambda _: True)
    model = load(prepared.out, tmp_path)
    assert (kind(model), model.hashed) == ("native", False)


def test_an_image_brings_digests(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files whose sizes are those of its build, on a read-only mount; `inspect` hashes them."""
    image = Path(shutil.copytree(source, tmp_path / "image"))
    ship(image)
    monkeypatch.setattr(content, "is_safe", lambda _: True)
    monkeypatch.setattr(digests, "is_safe", lambda _: True)
    found = load(image, tmp_path / "cache", "product")
    assert (found.digest, found.hashed) == (load(source, tmp_path / "cache", "product").digest, False)
    weights = image / "product/1/w.bin"
    weights.write_bytes(weights.read_bytes() + b"0")
    assert load(image, tmp_path / "cache", "product").hashed
    whole = open_repository(str(image), threads=1, cache=tmp_path / "cache", in_full=True).get("product")
    assert (whole.hashed, whole.digest == found.digest) == (True, False)


def test_a_plain_model_in_the_cache_is_hashed_once(source: Path, tmp_path: Path) -> None:
    first = load(source, tmp_path, "product")
    for weights in tmp_path.glob("*/w.bin"):
        settle(weights)
    second, again = (load(source, tmp_path, "product") for _ in range(2))
    assert (first.digest, second.digest, again.hashed) == (again.digest, again.digest, False)


def test_a_file_that_has_just_changed_is_hashed_again(tmp_path: Path) -> None:
    """Its next change may have the same time."""
    path = tmp_path / "large"
    path.write_bytes(bytes(5 << 20))
    known = Digests(tmp_path / "cache")
    os.utime(path)
    known.of(path)
    kept_at_once = [*(tmp_path / "cache/digests").iterdir()] if (tmp_path / "cache").exists() else []
    settle(path)
    known.of(path)
    assert kept_at_once == []
    assert known.of(path) == (hashlib.sha256(bytes(5 << 20)).hexdigest(), False)


# Where it is written


@pytest.mark.parametrize("out", ["{}/out", "{}", "{}/.."])
def test_the_output_is_beside_the_input(out: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = checksums(source)
    assert cli.main(["prepare", str(source), out.format(source)]) == 1
    assert "name a folder beside it" in capsys.readouterr().err
    assert checksums(source) == before


def test_what_is_prepared_is_not_prepared_again(prepared: Prepared, tmp_path: Path) -> None:
    assert cli.main(["prepare", str(prepared.out), str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out/conv/1").exists()


def test_nothing_half_written_is_served(conv: Path, tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "out"
    command = [*COMMAND, str(conv), str(out)]
    process = subprocess.Popen(command, env=environment(cache), stdout=subprocess.DEVNULL, start_new_session=True)
    while not list(out.glob(".prepare-*/native/weights.bin")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert open_repository(str(out), cache=cache).names() == []
    assert prepare(conv, out, cache)["conv"]["status"] == "prepared"
    assert [path.name for path in out.iterdir()] == ["conv"]


def test_a_version_is_replaced_at_once(conv: Path, copy: Path, cache: Path) -> None:
    """While it is prepared again, there is no moment without it."""
    (conv / "conv/1/model.onnx").write_bytes(prepared_models.convolutions(layers=4))
    command = [*COMMAND, str(conv), str(copy)]
    process = subprocess.Popen(command, env=environment(cache), stdout=subprocess.DEVNULL)
    looks = 0
    while process.poll() is None:
        assert (copy / "conv/1/prepared.json").exists()
        looks += 1
    assert process.returncode == 0
    assert looks > 100
    assert load(copy, cache).digest == hashlib.sha256(prepared_models.convolutions(layers=4)).hexdigest()


def test_two_do_not_write_to_one_folder(conv: Path, tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "out"
    command = [*COMMAND, str(conv), str(out)]
    first = subprocess.Popen(command, env=environment(cache), stdout=subprocess.DEVNULL)
    while not list(out.glob(".prepare-*")):
        assert first.poll() is None
        time.sleep(0.01)
    second = subprocess.run(command, env=environment(cache), capture_output=True, text=True, check=False)
    assert (second.returncode, first.wait()) == (1, 0)
    assert "another `inferry prepare` writes to" in second.stderr


def test_a_bucket_to_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inferry.storage.bucket import memory_bucket

    monkeypatch.setenv("MODEL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(trials, "measured", prepare_by_table.measured)
    memory_bucket({"conv/1/model.onnx": CONV, "small.onnx": onnx_models.scaled()}, "prepare-from")
    for _ in range(2):
        assert cli.main(["prepare", "memory://prepare-from", "memory://prepare-to"]) == 0
    model = open_repository("memory://prepare-to", threads=1, cache=tmp_path / "served").get("conv")
    assert (kind(model), model.digest) == ("native", hashlib.sha256(CONV).hexdigest())
    again = open_repository("memory://prepare-to", threads=1, cache=tmp_path / "served").get("conv")
    assert (kind(again), again.hashed) == ("native", False)


def test_forms_of_other_kinds_of_cpu_stay(
    conv: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever prepares on each kind of CPU gets a repository for all of them."""

    def elsewhere(value: dict[str, Any]) -> None:
        native = value["forms"][1]
        native["cpu"], value["proof"] = "x86_64 avx", {"x86_64 avx": value["proof"][cpu_kind.kind()]}

    rewrite(copy, elsewhere)
    assert prepare(conv, copy, tmp_path / "cache")["conv"]["status"] == "prepared"
    value = json.loads((copy / "conv/1/prepared.json").read_bytes())
    assert {form["cpu"] for form in value["forms"]} == {"", "x86_64 avx", cpu_kind.kind()}
    assert value["proof"].keys() == {"x86_64 avx", cpu_kind.kind()}
