"""images/: what goes into the containers without them having been built. tests/images has the rest."""

import subprocess
import sys
from pathlib import Path

import csimdjson
import onnx_models
import pytest
from onnx import helper

IMAGES = Path(__file__).parents[2] / "images"
LIBRARY = Path(csimdjson.__file__)


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(IMAGES))


def test_a_library_without_what_no_loader_reads(tmp_path: Path) -> None:
    from elf import loaded

    content = LIBRARY.read_bytes()
    small = loaded(content)
    assert (len(small) < len(content) / 2, loaded(small)) == (True, small)
    (tmp_path / LIBRARY.name).write_bytes(small)
    code = "import csimdjson; print(csimdjson.__file__, csimdjson.Parser().parse(b'[1, 2]').as_list())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / LIBRARY.name} [1, 2]\n"


def test_what_is_no_library_stays(tmp_path: Path) -> None:
    from elf import loaded

    assert loaded(b"INPUT(libm.so.6)\n") == b"INPUT(libm.so.6)\n"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (b"\0libaa.so.1\0libc.so.6\0", b"\0lib.so.1\0\0\0libc.so.6\0"),
        (b"\0xlibaa.so.1\0libaa.so.10\0", b"\0xlibaa.so.1\0libaa.so.10\0"),
    ],
)
def test_another_name_for_the_loader(names: bytes, expected: bytes) -> None:
    from elf import renamed

    assert renamed(names, "libaa.so.1", "lib.so.1") == expected


def test_a_folder_is_pruned(tmp_path: Path) -> None:
    from prune import main

    names = "opentelemetry/semconv/_incubating/attributes"
    gone = (
        "numpy/random/x.so",
        "numpy/tests/test.py",
        "pyarrow/_dataset.cpython-313.so",
        "numpy-2.dist-info/RECORD",
        f"{names}/aws_attributes.py",
        f"{names}/os_attributes.py",
    )
    kept = (
        "obstore/x.py",
        "pyarrow/libarrow.so.1",
        "numpy-2.dist-info/LICENSE",
        "pyarrow/lib.so",
        f"{names}/otel_attributes.py",
    )
    for name in (*gone, *kept, "pyarrow/libarrow_dataset.so.1"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0libarrow_dataset.so.1\0libc.so.6\0")
    main(tmp_path)
    left = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    asks, instead = b"\0libarrow_dataset.so.1\0libc.so.6\0", b"\0libarrow.so.1\0\0\0\0\0\0\0\0\0libc.so.6\0"
    assert left == {kept[0]: asks, kept[1]: instead, kept[2]: asks, kept[3]: instead, kept[4]: asks}


def test_of_some_packages_the_bytecode_stays(tmp_path: Path) -> None:
    from prune import main

    for name in ("numpy/lib/x.py", "other/x.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("def fail(): raise ValueError\n")
    main(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py*")) == [
        "numpy/lib/x.pyc",
        "other/x.py",
    ]
    # PEP 552: by hash, and never compared.
    assert (tmp_path / "numpy/lib/x.pyc").read_bytes()[4] == 1
    code = "from numpy.lib import x; print(x.fail.__code__.co_filename)"
    # Nothing says where it was made: the same packages make the same files.
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "numpy/lib/x.py\n"


@pytest.mark.parametrize("needs", ["grpc", "opentelemetry/proto", "requests"])
def test_what_somebody_needs_stays(tmp_path: Path, needs: str) -> None:
    from prune import NEEDED, main

    for folder in (*NEEDED, needs):
        (tmp_path / folder).mkdir(parents=True)
    main(tmp_path)
    assert {name for name in NEEDED if (tmp_path / name).exists()} == {
        n for n, users in NEEDED.items() if needs in users
    }


def test_the_model_of_the_jobs() -> None:
    made = onnx_models.model(
        [helper.make_node("Add", ["x", "x"], ["features"])],
        [onnx_models.tensor("x", "FP32", ("batch", 3))],
        [onnx_models.tensor("features", "FP32", ("batch", 3))],
    )
    assert (IMAGES / "models" / "twice" / "1" / "model.onnx").read_bytes() == made
