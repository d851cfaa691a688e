"""Model text becomes harmless HTML that reads as it was meant. (test_browser.py runs it in chromium.)"""

from __future__ import annotations

import re
import time
from html import unescape

import pytest

from labeling_app.highlight import CLASSES, LANGUAGES, MAX_CODE, highlight
from labeling_app.render import MAX_RENDERED, render, render_asked


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a **b** *c* ~~d~~ `e`", "<p>a <strong>b</strong> <em>c</em> <s>d</s> <code>e</code></p>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("3. c\n4. d", '<ol start="3">\n<li>c</li>\n<li>d</li>\n</ol>'),
        ("```\nx < 1\n```", "<pre><code>x &lt; 1\n</code></pre>"),
        ("```nonsense\nx < 1\n```", "<pre><code>x &lt; 1\n</code></pre>"),
        (
            "```python\ndef f(): 'a<b'\n```",
            '<pre><code><span class="rb-k">def</span> <span class="rb-f">f</span>(): '
            '<span class="rb-s">\'</span><span class="rb-s">a&lt;b</span><span class="rb-s">\'</span>\n'
            "</code></pre>",
        ),
        ("<b>tag</b> & <!-- c -->", "<p>&lt;b&gt;tag&lt;/b&gt; &amp; &lt;!-- c --&gt;</p>"),
        ("it costs $5 or $6", "<p>it costs $5 or $6</p>"),
        ("`$x$` is code", "<p><code>$x$</code> is code</p>"),
        ("$\\frac{$", "<p><code>$\\frac{$</code></p>"),
        ("$$\n\\undefined{\n$$", "<code>$$\\undefined{$$</code>"),
    ],
)
def test_markdown(text: str, html: str) -> None:
    assert render(text).strip() == html


@pytest.mark.parametrize("text", ["$x^2$", "\\(x^2\\)", "$$x^2$$", "\\[x^2\\]", "$$\nx\n= x^2\n- 1\n$$"])
def test_latex_becomes_mathml(text: str) -> None:
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in render(text)
    assert render(text).count("<math") == 1


def test_nothing_is_loaded_and_links_leave_alone() -> None:
    html = render("![pixel](https://e.com/p.png) [a](javascript:alert(1)) [b](https://e.com) <https://f.com>")
    assert "<img" not in html
    assert "javascript:" not in re.findall(r'href="([^"]*)"', html)
    assert html.count('rel="noopener noreferrer nofollow"') == html.count("<a ") == 3
    assert html.count('target="_blank"') == 3


def test_only_listed_tags_and_attributes_remain() -> None:
    from labeling_app.render import _MATH, _TAGS

    texts = [
        "<svg onload=alert(1)>",
        "$\\text{<img src=x onerror=alert(1)>}$",
        "$\\href{javascript:alert(1)}{x}$ $\\class{a}{b}$ $\\style{color:red}{x}$ $\\color{red}x$",
        '[a](https://e.com "onmouseover=alert(1)")',
        "$<script>alert(1)</script>$",
        "```<script>\nalert(1)\n```",
    ]
    html = render("\n\n".join(texts))
    assert set(re.findall(r"<([a-z]+)", html)) <= {*_TAGS.split(), *_MATH.split()}
    assert not re.search(r"<[^>]* (on\w+|style|class|id|src)=", html)


def test_classes_are_only_those_of_code() -> None:
    html = render("```python\ndef f(x): return 1 # c\n```\n\n<span class='rb-dialog'>a</span>")
    assert set(re.findall(r'class="([^"]*)"', html)) == {"rb-k", "rb-f", "rb-n", "rb-c"} < CLASSES


def test_what_people_wrote_stays_as_typed_but_for_code_and_formulas() -> None:
    text = "# no *heading*  \n  - $x^2$ <b>\n\n```python\nx = 1\n```\n\nend\n```\nnot closed"
    html = render_asked(text)
    assert html.startswith("<p># no *heading*  \n  - <math")
    assert "&lt;b&gt;</p><pre><code>x = <span" in html
    assert html.endswith("<p>end\n```\nnot closed</p>")
    assert render_asked("~~~\na\n~~~") == "<pre><code>a\n</code></pre>\n"
    assert render_asked("a" * (MAX_RENDERED + 1)).startswith("<pre>aaa")


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_colours_never_change_the_code(language: str) -> None:
    code = "\r\n\t<a href='x'>{{ y }}</a>\n/* \"z\" */ # c\n\u2028 \x00 func(1.5e3) -- 'é'\n\n"
    html = highlight(code, language)
    plain = unescape(re.sub(r"<[^>]*>", "", html))
    assert html == "" or plain == code
    assert highlight("x" * (MAX_CODE + 1), language) == ""


def test_hostile_lengths_take_no_time() -> None:
    start = time.process_time()
    for piece in (
        "[",
        "*a ",
        "`",
        "> ",
        "- ",
        "$",
        "\\(",
        "![[",
        "$a$ ",
        "|a",
        "_a_ **b",
        "$\\left( ",
        "<",
        "{{",
        "```js\n",
        "```java\na \n```\n",
        "```c\n//\n",
    ):
        render((piece * MAX_RENDERED)[:MAX_RENDERED])
    assert render("*" * (MAX_RENDERED + 1)).startswith("<pre>***")
    assert time.process_time() - start < 15
