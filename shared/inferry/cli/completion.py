"""`inferry completion`: the script by which a shell completes commands, options and the names of files."""

from inferry.cli.parser import make_parser
from inferry.errors import InvalidSettings, extra

# What arguments of these names are, as the help calls them.
_FILES = ("FILE", "FOLDER", "IN", "MODEL", "MODELS", "NPZ", "OUT", "PATH", "[NAME=]FILE")


def script(shell: str) -> str:
    """The script for a shell, written by shtab. InvalidSettings without the extra `completion`."""
    try:
        import shtab
    except ImportError as exc:
        raise InvalidSettings(f"completions need shtab: {extra('completion')}") from exc
    parser = make_parser()
    for command in parser.commands.values():
        for action in command._actions:
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell)
    return text
