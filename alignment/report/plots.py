"""Plots as inline SVG, written by hand: no scripts, no fonts, readable in the dark, in print and on a phone.

Colours are CSS variables of `page.py` with a fallback, so a plot is also right on its own. Every function
takes plain numbers and returns an `Svg`; text in it is escaped. Series are told apart by colour and by
dash, or by a label beside them, so black-and-white print works too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from alignment.report.text import escape, number

Scale = Callable[[float], float]
WIDTH = 480
COLOURS = ("#1f6feb", "#d1570a", "#1a7f4b", "#8a4fd0", "#b8860b", "#c2255c")
DASHES = ("", "6 3", "2 2", "8 3 2 3", "12 4", "1 4")
_CHARACTER = 7.2  # rough upper width of a character at the font size of 12


class Svg(str):
    """Finished SVG markup. Only the functions of this module make it: a page takes nothing else unescaped."""

    __slots__ = ()


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover [low, high] in steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def intervals(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    reference: float | None = None,
    bounds: tuple[float, float] | None = None,
    x_label: str = "",
    title: str = "",
) -> Svg:
    """A dot with whiskers for each (label, value, low, high), and a dashed line at `reference`."""
    known = [v for _, *r in rows for v in r if _drawable(v)]
    known += [] if reference is None else [reference]
    low, high = bounds or _padded(known)
    left, right = _label_width([r[0] for r in rows]), WIDTH - 148
    height = 30 * len(rows) + 46
    scale = _scale(low, high, left, right)
    out = _x_axis(scale, ticks(low, high), height - 36, 8, left, right, x_label)
    if reference is not None:
        out.append(_line(scale(reference), 8, scale(reference), height - 36, "ref"))
    for i, (label, value, lo, hi) in enumerate(rows):
        y = 8 + 30 * i + 15
        out.append(_text(left - 8, y + 4, _short(label, left), "end", full=label))
        if _drawable(value):
            shown = f"{number(value)} [{number(lo)}, {number(hi)}]"
            out.append(f'<g style="color:{_colour(0)}"><title>{escape(label)}: {escape(shown)}</title>')
            if _drawable(lo) and _drawable(hi):
                out.append(_line(scale(lo), y, scale(hi), y, "whisker"))
                out += [_line(scale(x), y - 5, scale(x), y + 5, "whisker") for x in (lo, hi)]
            out.append(f'<circle cx="{scale(value):.1f}" cy="{y}" r="4.5" fill="currentColor"/></g>')
            out.append(_text(WIDTH, y + 4, shown, "end"))
        else:
            out.append(_text(WIDTH, y + 4, "n/a", "end"))
    return _svg(out, height, title)


def bars(rows: Sequence[tuple[str, float]], *, x_label: str = "", title: str = "") -> Svg:
    """A horizontal bar for each (label, value), from zero; negative values go left."""
    known = [v for _, v in rows if _drawable(v)]
    low, high = min([0.0, *known]), max([0.0, *known])
    high = high if high > low else low + 1.0
    left, right = _label_width([r[0] for r in rows]), WIDTH - 64
    height = 26 * len(rows) + 46
    scale = _scale(low, high, left, right)
    out = _x_axis(scale, ticks(low, high), height - 36, 8, left, right, x_label)
    for i, (label, value) in enumerate(rows):
        y = 8 + 26 * i
        out.append(_text(left - 8, y + 17, _short(label, left), "end", full=label))
        out.append(_text(WIDTH, y + 17, number(value), "end"))
        if _drawable(value):
            x0, x1 = sorted((scale(0.0), scale(value)))
            out.append(
                f'<rect x="{x0:.1f}" y="{y + 4}" width="{max(1.0, x1 - x0):.1f}" height="18" rx="2" '
                f'fill="{_colour(0)}"><title>{escape(label)}: {escape(number(value))}</title></rect>'
            )
    return _svg(out, height, title)


def histogram(
    series: Mapping[str, Sequence[float]], *, bins: int = 30, x_label: str = "", title: str = ""
) -> Svg:
    """The distribution of each series in a row of its own over one shared axis, its mean marked.

    Each row is scaled to its own tallest bin: shapes are compared, not counts.
    """
    clean = {name: [float(v) for v in vs if _drawable(v)] for name, vs in series.items()}
    known = [v for vs in clean.values() for v in vs]
    low, high = _padded(known) if known else (0.0, 1.0)
    if known and min(known) >= 0:
        low = max(0.0, low)
    if known and high - low <= 2 * bins and all(v == int(v) for v in known):
        low, high = min(known) - 0.5, max(known) + 0.5  # whole numbers: a bin for each
        bins = int(high - low)
    left, right, row = _label_width(list(series)), WIDTH - 84, 46
    height = row * len(clean) + 46
    scale = _scale(low, high, left, right)
    out = _x_axis(scale, ticks(low, high), height - 36, 8, left, right, x_label)
    for i, (name, values) in enumerate(clean.items()):
        base = 8 + row * (i + 1) - 4
        counts = [0] * bins
        for v in values:
            counts[min(bins - 1, int((v - low) / (high - low) * bins))] += 1
        tallest = max([1, *counts])
        path = [f"M{left:.1f} {base}"]
        for b, count in enumerate(counts):
            y = base - (row - 10) * count / tallest
            x0, x1 = (left + (right - left) * edge / bins for edge in (b, b + 1))
            path.append(f"L{x0:.1f} {y:.1f}L{x1:.1f} {y:.1f}")
        path.append(f"L{right:.1f} {base}Z")
        out.append(
            f'<path d="{"".join(path)}" fill="{_colour(i)}" fill-opacity="0.35" stroke="{_colour(i)}"/>'
        )
        out.append(_text(left - 8, base - 6, _short(name, left), "end", full=name))
        if values:
            mean = sum(values) / len(values)
            out.append(_line(scale(mean), base - row + 8, scale(mean), base, "mean"))
            out.append(_text(WIDTH, base - 6, f"mean {number(mean)}", "end"))
    return _svg(out, height, title)


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str = "",
    y_label: str = "",
    title: str = "",
    reference: float | None = None,
) -> Svg:
    """A line through (xs, ys) for each series; a point that is not finite breaks the line."""
    xs = [x for s in series.values() for x in s[0] if _drawable(x)]
    ys = [y for s in series.values() for y in s[1] if _drawable(y)]
    ys += [] if reference is None else [reference]
    frame = _frame(xs, ys, list(series), x_label, y_label, reference)
    for i, (name, (px, py)) in enumerate(series.items()):
        frame.draw(px, py, i, name)
    return _svg(frame.parts, frame.height, title)


class Curve(NamedTuple):
    """points: (x, y, low, high), what was measured with its interval; line: (xs, ys, lows, highs), a curve
    through them with its band, None for none."""

    points: Sequence[tuple[float, float, float, float]]
    line: tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]] | None = None


def curves(
    series: Mapping[str, Curve],
    *,
    x_label: str = "",
    y_label: str = "",
    title: str = "",
    reference: float | None = None,
) -> Svg:
    """Measured points with their intervals, and a fitted line in its band, for each series."""
    xs = [p[0] for s in series.values() for p in s.points] + [
        x for s in series.values() if s.line for x in s.line[0]
    ]
    ys = [y for s in series.values() for p in s.points for y in p[1:]]
    ys += [y for s in series.values() if s.line for part in s.line[1:] for y in part]
    ys += [] if reference is None else [reference]
    frame = _frame(
        [x for x in xs if _drawable(x)],
        [y for y in ys if _drawable(y)],
        list(series),
        x_label,
        y_label,
        reference,
    )
    for i, (name, curve) in enumerate(series.items()):
        if curve.line is not None:
            at, value, low, high = curve.line
            edge = [(x, y) for x, y in [*_pairs(at, high), *reversed(_pairs(at, low))] if _drawable(y)]
            path = _path([(frame.x(x), frame.y(y)) for x, y in edge])
            frame.parts.append(f'<path d="{path}Z" fill="{_colour(i)}" fill-opacity="0.15"/>')
            frame.draw(at, value, i, name)
        for x, y, lo, hi in curve.points:
            if not (_drawable(x) and _drawable(y)):
                continue
            shown = f"{name}: {number(y)} [{number(lo)}, {number(hi)}] at {number(x)}"
            frame.parts.append(f'<g style="color:{_colour(i)}"><title>{escape(shown)}</title>')
            if _drawable(lo) and _drawable(hi):
                frame.parts.append(_line(frame.x(x), frame.y(lo), frame.x(x), frame.y(hi), "whisker"))
            frame.parts.append(_mark(frame.x(x), frame.y(y), i) + "</g>")
        if len(series) > 1:
            frame.parts.append(f'<g style="color:{_colour(i)}">{_mark(*frame.legend(i, 11), i)}</g>')
    return _svg(frame.parts, frame.height, title)


def _mark(x: float, y: float, index: int) -> str:
    """A dot for the first series, a square for the second, and so on in turn: told apart without colour."""
    if index % 2:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="currentColor"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="currentColor"/>'


class _Frame(NamedTuple):
    """Axes, grid and legend of a plot of y over x, and where a value is drawn in it."""

    parts: list[str]
    x: Scale
    y: Scale
    height: float
    left: float

    def legend(self, index: int, along: float = 0.0) -> tuple[float, float]:
        """Where the legend of a series begins, `along` its line."""
        return self.left + (index % 3) * (WIDTH - self.left) / 3 + along, 30.0 + 20 * (index // 3)

    def draw(self, xs: Sequence[float], ys: Sequence[float], index: int, name: str) -> None:
        path = _path([(self.x(x), self.y(y)) if _drawable(y) else None for x, y in _pairs(xs, ys)])
        self.parts.append(
            f'<path d="{path}" {_stroke(index)} stroke-linejoin="round"><title>{escape(name)}</title></path>'
        )


def _stroke(index: int) -> str:
    return f'fill="none" stroke="{_colour(index)}" stroke-width="2" stroke-dasharray="{DASHES[index % 6]}"'


def _frame(
    xs: Sequence[float],
    ys: Sequence[float],
    names: Sequence[str],
    x_label: str,
    y_label: str,
    reference: float | None,
) -> _Frame:
    """An empty plot for these values; several names get a legend."""
    x_low, x_high = (min(xs), max(xs)) if xs else (0.0, 1.0)
    x_high = x_high if x_high > x_low else x_low + 1.0
    y_low, y_high = _padded(ys) if ys else (0.0, 1.0)
    legend = len(names) > 1
    y_ticks = ticks(y_low, y_high)
    y_names = tick_labels(y_ticks)
    left = 16 + _CHARACTER * max(len(name) for name in y_names)
    top, right = 26 + (20 * math.ceil(len(names) / 3) if legend else 0), WIDTH - 12
    height = 250 + top
    bottom = height - 36
    x_scale, y_scale = _scale(x_low, x_high, left, right), _scale(y_low, y_high, bottom, top)
    out = _x_axis(x_scale, ticks(x_low, x_high), bottom, top, left, right, x_label)
    for t, name in zip(y_ticks, y_names, strict=True):
        out.append(_line(left, y_scale(t), right, y_scale(t), "grid"))
        out.append(_text(left - 6, y_scale(t) + 4, name, "end"))
    out.append(_text(2, 14, y_label, "start"))
    if reference is not None:
        out.append(_line(left, y_scale(reference), right, y_scale(reference), "ref"))
    frame = _Frame(out, x_scale, y_scale, height, left)
    for i, name in enumerate(names if legend else ()):
        x, y = frame.legend(i)
        out.append(f'<path d="M{x:.1f} {y:.1f}h22" {_stroke(i)}/>')
        out.append(_text(x + 28, y + 4, _short(name, 120), "start", full=name))
    return frame


def _pairs(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(xs, ys, strict=True))


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Move and line commands; None lifts the pen. A point alone becomes a dot by a line of no length."""
    parts, down = [], False
    for i, point in enumerate(points):
        if point is not None:
            parts.append(f"{'L' if down else 'M'}{point[0]:.1f} {point[1]:.1f}")
            if not down and (i + 1 == len(points) or points[i + 1] is None):
                parts.append("h0.1")
        down = point is not None
    return "".join(parts)


def _drawable(value: float) -> bool:
    """Not NaN, not infinite, and not so large that sums and differences of such values are."""
    return abs(value) < 1e100


def tick_labels(at: Sequence[float]) -> list[str]:
    """Ticks with as many decimals as their step needs: 0.2, 0.4 or 1,000, 2,000."""
    if len(at) < 2 or max(map(abs, at)) >= 1e9 or at[1] - at[0] < 1e-4:
        return [number(t) for t in at]
    step = at[1] - at[0]
    places = next(p for p in range(7) if abs(round(step, p) - step) < 1e-9)
    return [f"{t:,.{places}f}".replace("-", "−") for t in at]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """From data to picture coordinates, linear: `low` is drawn at `start`, `high` at `end`."""
    factor = (end - start) / (high - low)
    return lambda value: start + (value - low) * factor


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with 5% on either side; a single value gets room around it."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _label_width(labels: Sequence[str]) -> float:
    return min(160.0, 14 + _CHARACTER * max((len(label) for label in labels), default=0))


def _short(label: str, width: float) -> str:
    room = max(4, int((width - 14) / _CHARACTER) + 1)
    end = room // 2  # what tells labels apart, a path's last part or a number, stands at their end
    return label if len(label) <= room else f"{label[: room - 1 - end]}…{label[-end:]}"


def _colour(index: int) -> str:
    return f"var(--series-{index % 6 + 1}, {COLOURS[index % 6]})"


def _text(x: float, y: float, text: str, anchor: str, *, full: str | None = None) -> str:
    hint = f"<title>{escape(full)}</title>" if full and full != text else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}{hint}</text>'


_STROKES = {
    "grid": 'stroke="currentColor" stroke-opacity="0.14"',
    "axis": 'stroke="currentColor" stroke-opacity="0.5"',
    "ref": 'stroke="currentColor" stroke-opacity="0.75" stroke-dasharray="5 4"',
    "mean": 'stroke="currentColor" stroke-width="1.5"',
    "whisker": 'stroke="currentColor" stroke-width="2"',
}


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {_STROKES[kind]}/>'


def _x_axis(
    scale: Scale, at: Sequence[float], bottom: float, top: float, left: float, right: float, label: str
) -> list[str]:
    out = [_line(scale(t), top, scale(t), bottom, "grid") for t in at]
    out.append(_line(left, bottom, right, bottom, "axis"))
    out += [_text(scale(t), bottom + 15, name, "middle") for t, name in zip(at, tick_labels(at), strict=True)]
    out.append(_text((left + right) / 2, bottom + 32, label, "middle"))
    return out


def _svg(parts: Sequence[str], height: float, title: str) -> Svg:
    name = f"<title>{escape(title)}</title>" if title else ""
    return Svg(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">{name}{"".join(parts)}</svg>'
    )
