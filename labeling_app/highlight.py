"""Colours for code: Pygments says what each piece is, and a few classes of our own are written for it."""

from __future__ import annotations

import re
from html import escape

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Name, Number, String, _TokenType
from pygments.util import ClassNotFound

MAX_CODE = 8_000  # characters; longer code stays without colours, because a lexer may take its time
# Neither does code that nobody reads as code: on long lines and long runs of one thing lexers are quadratic.
_UNREADABLE = re.compile(r"\s{100}|[^\n]{1000}")
# The languages that models write, and no others: a lexer is a set of regular expressions that runs on
# whatever a model wrote.
LANGUAGES = set(
    """
    bash c c++ cpp c# cs csharp console css diff dockerfile go html ini java javascript js json jsx julia
    kotlin latex lua php powershell py python python3 r rb rs ruby rust scala sh shell sql
    swift tex toml ts tsx typescript xml yaml yml zsh
    """.split()
)
_KINDS: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "rb-c"),
    (Keyword, "rb-k"),
    (Name.Tag, "rb-k"),
    (String, "rb-s"),
    (Number, "rb-n"),
    (Name.Function, "rb-f"),
    (Name.Class, "rb-f"),
    (Name.Builtin, "rb-b"),
    (Name.Decorator, "rb-b"),
    (Name.Attribute, "rb-b"),
    (Generic.Deleted, "rb-d"),
    (Generic.Inserted, "rb-i"),
)
CLASSES = {name for _, name in _KINDS}


def highlight(code: str, language: str, _attributes: str = "") -> str:
    """The code as HTML, its tokens in spans; "" where it is to stay as it is: no language, an unknown one, or
    too long. (This is markdown-it's `highlight` option, which escapes the code itself for "".)"""
    lexer = _lexer(language.lower())
    if lexer is None or len(code) > MAX_CODE or _UNREADABLE.search(code):
        return ""
    tokens = list(lexer.get_tokens(code))
    if "".join(text for _, text in tokens) != code:
        return ""  # a lexer that changes the text is of no use
    return "".join(_span(kind, text) for kind, text in tokens)


def _lexer(language: str) -> Lexer | None:
    if language not in LANGUAGES:
        return None
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:  # this release of Pygments does not have it
        return None


def _span(kind: _TokenType, text: str) -> str:
    name = next((name for parent, name in _KINDS if kind in parent), None)
    return escape(text) if name is None or not text.strip() else f'<span class="{name}">{escape(text)}</span>'
