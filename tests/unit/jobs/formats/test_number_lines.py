"""Lines of numbers that are read at once: the same rows as one by one, and no row that is not on a line."""

from typing import Any

import pytest
from inferry.jobs.formats.number_lines import read
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import DATATYPES

X = [("x", TensorSpec("x", DATATYPES["FP32"], (-1, 2)))]
ANY = [("x", TensorSpec("x", DATATYPES["FP32"], (-1, -1)))]
IDS = [("x", TensorSpec("x", DATATYPES["INT32"], (-1, 2)))]
ONE = [("x", TensorSpec("x", DATATYPES["FP64"], (-1,)))]
TWO = [*X, ("n", TensorSpec("n", DATATYPES["INT64"], (-1, 1)))]

READ: dict[str, tuple[Any, list[str], list[Any]]] = {
    "alike": (X, ['{"x":[1,2.5]}', '{"x":[3,-4e1]}'], [{"x": [[1, 2.5], [3, -40]]}]),
    "a line": (X, ['{"x":[1,2]}'], [{"x": [[1, 2]]}]),
    "alike, with space": (X, [' { "x" : [ 1 , 2 ] } \r', ' { "x" : [3, 4 ] } \r'], [{"x": [[1, 2], [3, 4]]}]),
    "not alike": (X, ['{"x":[1,2]}', '{"y":"}{","x": [3,4]}'], [{"x": [[1, 2], [3, 4]]}]),
    "other members": (X, ['{"id":"[","x":[1,2]}', '{"x":[3,4],"id":[[]]}'], [{"x": [[1, 2], [3, 4]]}]),
    "its name as a value": (X, ['{"x":[1,2],"y":"x"}', '{"x":[3,4]}'], [{"x": [[1, 2], [3, 4]]}]),
    "shapes": (ANY, ['{"x":[1]}', '{"x":[2,3]}', '{"x":[4]}'], [{"x": [[1], [4]]}, {"x": [[2, 3]]}]),
    "integers": (IDS, ['{"x":[1,2]}', '{"x":[3,-4]}'], [{"x": [[1, 2], [3, -4]]}]),
    "numbers": (ONE, ['{"x":1}', '{"x":2.5}'], [{"x": [1, 2.5]}]),
    "two inputs": (TWO, ['{"x":[1,2],"n":7}', '{"n":8,"x":[3,4]}'], [{"x": [[1, 2], [3, 4]], "n": [[7], [8]]}]),
}


@pytest.mark.parametrize("case", READ)
def test_read(case: str) -> None:
    inputs, lines, expected = READ[case]
    found = read("\n".join(lines).encode(), inputs, ())
    assert found
    groups = [{name: array.tolist() for name, array in group.feed.items()} for group in found[0]]
    assert sorted(groups, key=str) == expected


LEFT: dict[str, tuple[Any, list[str]]] = {
    "a value on two lines": (X, ['{"x":[1', "2]}"]),
    "two values on a line": (X, ['{"x":[1,2]},{"x":[3,4]}']),
    "three values on a line, one on two": (
        ANY,
        ['{"x":[1],"y":[2', "3]}", '{"x":[4]},{"x":[5]},{"x":[6]}'],
    ),
    "a text over two lines": (X, ['{"x":[1,2],"y":"', '","z":[]},{"x":[3,4]}']),
    "rows out of their array": (X, ['{"x":[1,2]}', '{"x":[3,4],[5,6]}']),
    "an array more": (X, ['{"x":[1,2],"x":[3,4]}', '{"x":[1,2],"x":[3,4]}']),
    "a member twice": (X, ['{"x":[1,2],"y":1,"x":[3,4]}', '{"x":[1,2]}']),
    "nested": (X, ['{"x":[[1,2]]}', '{"x":[[3,4]]}']),
    "nested in a line": (X, ['{"x":[1,2]}', '{"x":[[3],[4]]}']),
    "too many": (X, ['{"x":[1,2]}', '{"x":[1,2,3]}']),
    "none": (X, ['{"x":[1,2]}', '{"y":[1,2]}']),
    "another name": (X, ['{"y":[1,2]}', '{"y":[3,4]}']),
    "no numbers": (X, ['{"x":[1,2]}', '{"x":[1,"2"]}']),
    "nothing": (X, ['{"x":[1,2]}', '{"x":[1,null]}']),
    "a boolean": (ONE, ['{"x":1}', '{"x":true}']),
    "a number among arrays": (ANY, ['{"x":[1]}', '{"x":1}']),
    "an array among numbers": (ANY, ['{"x":1}', '{"x":[1]}']),
    "floats for integers": (IDS, ['{"x":[1,2]}', '{"x":[1,2.5]}']),
    "out of range": (IDS, ['{"x":[1,2]}', '{"x":[1,3000000000]}']),
    "over 64 bits": (IDS, ['{"x":[1,2]}', '{"x":[1,100000000000000000000]}']),
    "no object": (X, ['{"x":[1,2]}', "[1,2]"]),
    "no JSON": (X, ['{"x":[1,2]}', '{"x":[1,2}']),
    "NaN": (X, ['{"x":[1,2]}', '{"x":[1,NaN]}']),
    "an empty line": (X, ['{"x":[1,2]}', "", '{"x":[1,2]}']),
}


@pytest.mark.parametrize("case", LEFT)
def test_left_to_a_look(case: str) -> None:
    inputs, lines = LEFT[case]
    assert read("\n".join(lines).encode(), inputs, ()) is None


def test_members_to_keep() -> None:
    lines = b'{"x":[1,2],"id":"a"}\n{"id":{"b":[1]},"x":[3,4]}\n{"x":[5,6]}'
    found = read(lines, X, ("id",))
    assert found
    assert found[1] == {"id": ["a", {"b": [1]}, None]}
    assert found[0][0].feed["x"].tolist() == [[1, 2], [3, 4], [5, 6]]
