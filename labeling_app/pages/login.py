"""The sign-in page: plain HTML, no script."""

from __future__ import annotations

from html import escape


def login_page(login: str = "", problem: str = "") -> str:
    """The form, with what was typed and what was wrong with it."""
    alert = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    focus_login, focus_password = ("", " autofocus") if login else (" autofocus", "")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in · alignkit labeling</title>
<link rel="icon" href="/ui/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/ui/login.css">
</head>
<body>
<main>
<form method="post" action="/login">
<img src="/ui/icon.svg" alt="" width="48" height="48">
<h1>alignkit labeling</h1>
<p class="lead">Sign in to rank model outputs.</p>
{alert}
<label for="login">Login</label>
<input id="login" name="login" autocomplete="username" autocapitalize="none" spellcheck="false" required
 maxlength="100" value="{escape(login, quote=True)}"{focus_login}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required
 maxlength="1024"{focus_password}>
<button type="submit">Sign in</button>
<p class="small">No account, or a forgotten password? Ask the person who runs this server.</p>
</form>
</main>
</body>
</html>
"""
