"""What was found, as SVG by matplotlib: times by size, and prices by traffic."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inferry.errors import InvalidSettings, extra
from inferry.sizing.offers import TRAFFIC, Offer
from inferry.sizing.sizes import Size


def draw(folder: Path, sizes: Sequence[Size], offers: Sequence[Offer]) -> list[Path]:
    """Writes size.svg and price.svg into a folder, the same bytes for the same numbers. InvalidSettings, OSError."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise InvalidSettings(f"pictures need matplotlib: {extra('size')} ({exc})") from exc
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "inferry", "svg.fonttype": "none"}):
        drawn = {"size.svg": _times(Figure, sizes), "price.svg": _prices(Figure, offers)}
        for name, figure in drawn.items():
            figure.savefig(folder / name, metadata={"Date": None})
    return [folder / name for name in drawn]


def _times(make: Callable[..., Any], sizes: Sequence[Size]) -> Any:
    figure = make(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    measured = [size for size in sizes if size.measured]
    others = [*measured[-1:], *(size for size in sizes if not size.measured)]
    for what, colour, label in (("warm", "tab:blue", "a prediction"), ("cold", "tab:red", "a start and a prediction")):
        axes.plot([s.memory for s in measured], [getattr(s, what) for s in measured], "o-", color=colour, label=label)
        axes.plot([s.memory for s in others], [getattr(s, what) for s in others], "o:", color=colour, fillstyle="none")
    axes.set(xscale="log", yscale="log", xlabel="MB of memory (dotted: extrapolated)", ylabel="seconds")
    axes.set_xticks([size.memory for size in sizes], [str(size.memory) for size in sizes], rotation=45)
    axes.minorticks_off()
    axes.legend()
    return figure


def _prices(make: Callable[..., Any], offers: Sequence[Offer]) -> Any:
    figure = make(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for offer in offers:
        axes.plot(TRAFFIC, [offer.per_million(n) for n in TRAFFIC], label=f"{offer.cloud}, {offer.name}")
    axes.set(xscale="log", yscale="log", xlabel="predictions a month", ylabel="USD per million predictions")
    axes.legend(fontsize="small")
    return figure
