"""Patterns for several files, as a shell has them."""

import re
from pathlib import Path


def split(url: str) -> tuple[str, str]:
    """The folder and the pattern below it of a URL or a path with * in it, or ? and [; "" for the place of one file."""
    magic = re.search(r"[*?[]" if "://" not in url else r"[*[]", url)
    if not magic or ("://" not in url and Path(url).exists()):
        return url, ""
    base = url[: url.rfind("/", 0, magic.start()) + 1]
    return base or "./", url[len(base) :]


def compiled(pattern: str) -> re.Pattern[str]:
    """What paths below the folder match a pattern: * and ? stop at "/", and ** doesn't."""
    kinds = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^/\]]+\])", pattern)
    return re.compile(
        "".join(
            kinds.get(piece) or (piece.replace("[!", "[^") if re.fullmatch(r"\[.+\]", piece) else re.escape(piece))
            for piece in pieces
        ),
        re.DOTALL,
    )
