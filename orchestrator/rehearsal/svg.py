"""A small writer of SVG: elements, scales, axes; light and dark by the reader's own setting.

Owns how marks and text become a file. What is shown is the matter of `plot`. Colours are classes, so that one style
sheet holds both looks; text is escaped here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape, quoteattr

FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"

_LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2430",
    "faint": "#5d6675",
    "grid": "#e1e5ea",
    "lane-a": "#c9dcf5",
    "lane-b": "#e4eefb",
    "exposed": "#2f6fc4",
    "succeeded": "#1b8a4b",
    "harmed": "#c0392b",
    "stop": "#c0392b",
    "hold": "#b36b00",
}
_DARK = {
    "paper": "#14181f",
    "ink": "#e8ebf0",
    "faint": "#a3adbb",
    "grid": "#2c3440",
    "lane-a": "#27456b",
    "lane-b": "#1d3350",
    "exposed": "#79aef2",
    "succeeded": "#5fd08d",
    "harmed": "#ff8a7a",
    "stop": "#ff8a7a",
    "hold": "#f0b354",
}
_SHAPES = f"""text {{ font: 12px {FONT}; }}
.title {{ font-size: 17px; font-weight: 600; }}
.small {{ font-size: 11px; }}
.halo {{ paint-order: stroke; stroke-width: 3px; stroke-linejoin: round; }}
.end {{ text-anchor: end; }}
.middle {{ text-anchor: middle; }}
.line {{ fill: none; stroke-width: 2.2; stroke-linejoin: round; }}
.thin {{ fill: none; stroke-width: 1; stroke-opacity: 0.28; }}
.mark {{ fill: none; stroke-width: 1.5; }}
.dash {{ stroke-dasharray: 3 3; }}
.rule {{ stroke-width: 1; }}
.area {{ stroke: none; fill-opacity: 0.14; }}
"""
_NOTHING = 1e-6
"""Below it, an axis would only show rounding."""
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to places on one axis."""

    low: float
    high: float
    start: float
    """Where `low` is drawn."""
    end: float
    """Where `high` is drawn."""

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        span = self.high - self.low
        return self.start + (value - self.low) / span * (self.end - self.start) if span else self.start


def ticks(high: float, most: int) -> list[float]:
    """Round values from 0 up to the first one that is not below `high`, at most `most` + 1 of them.

    Args:
        high: The largest value; not negative.
        most: How many steps at most.
    """
    if high < _NOTHING:
        return [0.0, 1.0]
    rough = high / most
    power = 10.0 ** floor(log10(rough))
    step = next(power * nice for nice in _NICE if power * nice >= rough * (1 - 1e-12))
    return [index * step for index in range(ceil(high / step - 1e-9) + 1)]


def element(name: str, body: str = "", **attributes: object) -> str:
    """One element; `class_` stands for class, `stroke_width` for stroke-width; numbers are shortened.

    Args:
        name: Of the element.
        body: What is inside; already SVG.
        attributes: By name.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_short(value))}" for key, value in attributes.items()
    )
    return f"<{name}{written}>{body}</{name}>" if body else f"<{name}{written}/>"


def text(x: float, y: float, words: str, class_: str = "ink", **more: object) -> str:
    """Words at a place."""
    return element("text", escape(words), x=x, y=y, class_=class_, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> str:
    """A line through points; nothing for none."""
    if not points:
        return ""
    return element("path", d="M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in points), class_=class_)


def document(width: float, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    """A whole file: what it shows stands in it for those who cannot see it."""
    body = "\n".join(
        (
            element("title", escape(title), id="title"),
            element("desc", escape(description), id="desc"),
            element("style", _style()),
            element("rect", width=width, height=height, class_="paper-fill"),
            *(part for part in parts if part),
        )
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_short(width)} {_short(height)}" '
        f'width="{_short(width)}" height="{_short(height)}" role="img" aria-labelledby="title desc">\n{body}\n</svg>\n'
    )


def _style() -> str:
    dark = _rules(_DARK).replace("\n", "\n  ").rstrip()
    return f"\n{_SHAPES}{_rules(_LIGHT)}@media (prefers-color-scheme: dark) {{\n  {dark}\n}}\n"


def _rules(colours: dict[str, str]) -> str:
    written = [f".{name} {{ fill: {colours[name]}; }}\n" for name in ("ink", "faint")]
    written.append(f".halo {{ stroke: {colours['paper']}; }}\n")
    for name, colour in colours.items():
        written.append(f".{name}-fill {{ fill: {colour}; }}\n.{name}-stroke {{ stroke: {colour}; }}\n")
    return "".join(written)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
