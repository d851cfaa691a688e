"""The sign-in page: plain HTML, no script. Also the frame of the other plain pages."""

from __future__ import annotations

from html import escape
from typing import Any


def plain_page(title: str, body: str, style: str = "login") -> str:
    """A page around `body`, which is HTML already; `style` names a file in ui/."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · alignkit labeling</title>
<link rel="icon" href="/ui/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/ui/{style}.css">
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def problem_line(problem: str) -> str:
    """What was wrong, in a box that screen readers announce; nothing if nothing was."""
    return f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""


def login_page(login: str = "", problem: str = "", provider: Any = None) -> str:
    """The form, with what was typed and what was wrong with it. provider: oidc.Provider or None."""
    focus_login, focus_password = ("", " autofocus") if login else (" autofocus", "")
    elsewhere = ""
    if provider is not None:
        name = escape(provider.settings.name)
        elsewhere = f"""<p class="or">or</p>
<a class="button second" href="/oidc/start">Sign in with {name}</a>"""
    return plain_page(
        "Sign in",
        f"""<form method="post" action="/login">
<img src="/ui/icon.svg" alt="" width="48" height="48">
<h1>alignkit labeling</h1>
<p class="lead">Sign in to rank model outputs.</p>
{problem_line(problem)}
<label for="login">Login</label>
<input id="login" name="login" autocomplete="username" autocapitalize="none" spellcheck="false" required
 maxlength="100" value="{escape(login, quote=True)}"{focus_login}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required
 maxlength="1024"{focus_password}>
<button type="submit">Sign in</button>
{elsewhere}
<p class="small">No account, or a forgotten password? Ask the person who runs this server.</p>
</form>""",
    )
