"""Model text to HTML that is safe to set as innerHTML: Markdown, tables, code, LaTeX (as MathML).

markdown-it with HTML off writes the markup, nh3 then keeps only what is on its list. The second step is the
wall: whatever the first lets through, no script, style, image, form, id or event handler gets by, and no
class but the few of highlighted code.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from functools import cache, lru_cache
from itertools import zip_longest
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from labeling_app.highlight import CLASSES, highlight

MAX_RENDERED = 60_000  # characters; a longer text is shown raw, because Markdown can take quadratic time
MAX_COLOURED = 24_000  # a longer text has no colours in its code
MAX_MATH = 2_000
MAX_MATHS = 200  # in one text

_TAGS = """
    p br hr h1 h2 h3 h4 h5 h6 blockquote ul ol li pre table thead tbody tr th td
    strong em s del code a sub sup span
"""
_MATH = """
    math mrow mi mn mo ms mtext mspace msup msub msubsup mfrac msqrt mroot mover munder munderover
    mtable mtr mtd mstyle mpadded mphantom menclose
"""
_MATH_ATTRIBUTES = {
    "math": {"display"},
    "mo": {
        "stretchy",
        "fence",
        "separator",
        "form",
        "lspace",
        "rspace",
        "minsize",
        "maxsize",
        "movablelimits",
    },
    "mi": {"mathvariant"},
    "mn": {"mathvariant"},
    "mspace": {"width"},
    "mfrac": {"linethickness"},
    "mtable": {"columnalign"},
    "mtd": {"columnalign"},
    "mstyle": {"displaystyle", "scriptlevel", "mathvariant"},
    "menclose": {"notation"},
}
_TAG_NAME = re.compile(r"</?\s*([^\s/>]*)")
_FENCE = re.compile(r"^((`{3,}|~{3,})[^\n`]*\n(?:.*\n)*?\2[`~]*[ \t]*(?:\n|\Z))", re.MULTILINE)
_DELIMITERS = (("$$", "$$", True), ("\\[", "\\]", True), ("\\(", "\\)", False), ("$", "$", False))


def render(text: str) -> str:
    """The text as sanitized HTML. Text over MAX_RENDERED characters comes back escaped, in one <pre>."""
    if len(text) > MAX_RENDERED:
        return f"<pre>{nh3.clean_text(text)}</pre>"
    return _rendered(text)


def render_asked(text: str) -> str:
    """What a person wrote to a model, as sanitized HTML: line by line as it was typed, because few people
    mean Markdown, but with fenced code and LaTeX drawn. Its container keeps white space."""
    if len(text) > MAX_RENDERED:
        return f"<pre>{nh3.clean_text(text)}</pre>"
    return _rendered_asked(text)


@lru_cache(maxsize=256)  # the people who judge one task come close after each other
def _rendered(text: str) -> str:
    return _clean(_markdown(len(text) <= MAX_COLOURED).render(text))


@lru_cache(maxsize=256)
def _rendered_asked(text: str) -> str:
    fences = [whole for whole, _ in _FENCE.findall(text)]
    html = []
    for plain, fence in zip_longest(_FENCE.split(text)[::3], fences):
        if plain.strip():
            html.append(f"<p>{_as_typed().renderInline(plain.strip(chr(10)))}</p>")
        if fence:
            html.append(_markdown(len(text) <= MAX_COLOURED).render(fence))
    return _clean("".join(html))


def _clean(html: str) -> str:
    return nh3.clean(
        html,
        tags={*_TAGS.split(), *_MATH.split()},
        attributes={"a": {"href", "title"}, "ol": {"start"}, **_MATH_ATTRIBUTES},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        strip_comments=True,
        allowed_classes={"span": CLASSES},
    )


@cache
def _markdown(coloured: bool) -> MarkdownIt:
    options = {"html": False, "breaks": True, "highlight": highlight if coloured else None}
    markdown = MarkdownIt("commonmark", options)
    markdown.enable(["table", "strikethrough"])
    markdown.disable("image")  # nothing is loaded for a text: the image's own words and link are shown
    markdown.inline.ruler.before("escape", "math", _inline_math)
    markdown.block.ruler.before("fence", "math", _block_math, {"alt": ["paragraph", "blockquote", "list"]})
    markdown.add_render_rule("math", _render_math)
    return markdown


@cache
def _as_typed() -> MarkdownIt:
    markdown = MarkdownIt("zero", {"html": False})
    markdown.enable("backticks")
    markdown.inline.ruler.before("escape", "math", _inline_math)
    markdown.add_render_rule("math", _render_math)
    return markdown


def _render_math(_self: Any, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    return _to_mathml(tokens[index])


def _inline_math(state: StateInline, silent: bool) -> bool:
    for opening, closing, display in _DELIMITERS:
        if not state.src.startswith(opening, state.pos):
            continue
        start = state.pos + len(opening)
        end = state.src.find(closing, start, start + MAX_MATH)
        if end <= start or (opening == "$" and not _is_dollar_math(state.src, start, end)):
            continue
        if not silent:
            token = state.push("math", "", 0)
            token.content, token.meta = state.src[start:end], {"display": display}
            token.markup = state.src[state.pos : end + len(closing)]
            token.attrs = {"number": _next_number(state.env)}
        state.pos = end + len(closing)
        return True
    return False


def _is_dollar_math(text: str, start: int, end: int) -> bool:
    """$5 and $6 are prices: no space inside the dollars, no digit behind them, no line end between."""
    inside = text[start:end]
    return inside == inside.strip() and "\n" not in inside and not text[end + 1 : end + 2].isdigit()


def _block_math(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """`$$ … $$` or `\\[ … \\]` over lines of its own, in which Markdown means nothing."""
    first = state.src[state.bMarks[start_line] + state.tShift[start_line] : state.eMarks[start_line]].rstrip()
    for opening, closing, _ in _DELIMITERS[:2]:
        if not first.startswith(opening):
            continue
        lines = [first[len(opening) :]]
        line = start_line
        while not lines[-1].endswith(closing):
            line += 1
            if line >= end_line or len(lines) > 100:
                return False
            lines.append(state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip())
        if not silent:
            content = "\n".join(lines)[: -len(closing)].strip()
            token = state.push("math", "", 0)
            token.content, token.meta, token.block = content, {"display": True}, True
            token.markup = f"{opening}{content}{closing}"
            token.attrs = {"number": _next_number(state.env)}
            state.line = line + 1
        return True
    return False


def _next_number(env: MutableMapping[str, Any]) -> int:
    env["maths"] = int(env.get("maths", 0)) + 1
    return int(env["maths"])


def _to_mathml(token: Token) -> str:
    """MathML of a math token, or its source as code where it cannot be turned into MathML."""
    source = f"<code>{nh3.clean_text(token.markup)}</code>"
    if len(token.content) > MAX_MATH or int(token.attrs["number"]) > MAX_MATHS:
        return source
    from latex2mathml.converter import convert

    try:
        mathml = convert(token.content, display="block" if token.meta["display"] else "inline")
    except Exception:  # on bad LaTeX the converter raises anything: its own, IndexError, RecursionError
        return source
    if not set(_TAG_NAME.findall(mathml)) <= set(_MATH.split()):  # it does not escape what is in \\text{…}
        return source
    return f"<p>{mathml}</p>" if token.block else mathml
