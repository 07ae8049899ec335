"""The files and rows that are refused, and why: patterns of "WRITER/FILE SHAPE" to a part of the reason."""

REFUSED: dict[str, str] = {
    # Objects have names: a model of one input takes them as a row of its own name.
    r".*/(?!.*-one).*\.jsonl row": "there is no value for input 'x'",
}
