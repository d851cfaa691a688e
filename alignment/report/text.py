"""Text made safe and readable for a page: escaping, and numbers as people write them."""

from __future__ import annotations

import html
import math
import re

# C0 and C1 controls but tab and newline, and the bidirectional overrides, which can make text read as what
# it is not. They are shown as a visible sign instead.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def escape(text: object) -> str:
    """`text` for HTML or SVG content and quoted attributes: nothing in it is markup, nothing is invisible."""
    plain = str(text).replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")
    return html.escape(_UNSEEN.sub(_visible, plain), quote=True)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else f"<U+{code:04X}>"


def number(value: float | None, digits: int = 3) -> str:
    """`value` with about `digits` significant digits: 12,345, 0.703, 1.2e-05, – for None, n/a for NaN."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    if abs(value) < 1e-4 or abs(value) >= 1e15:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if abs(value) >= 1 else digits
    return f"{value:,.{places}f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share as a whole percentage: 0.703 is 70%."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{100 * value:.0f}%"


def seconds(value: float | None) -> str:
    """A duration as people say it: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if value is None or not math.isfinite(value):
        return number(value)
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
