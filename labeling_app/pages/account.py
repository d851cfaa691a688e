"""The account page and the page of an invitation: plain HTML and forms, no script."""

from __future__ import annotations

from html import escape
from typing import Any

from sqlalchemy import RowMapping

from labeling_app.pages.login import plain_page, problem_line
from labeling_app.store.people import MIN_PASSWORD

DONE = {
    "password": "Your password is changed. Every other browser was signed out.",
    "sessions": "Every other browser was signed out.",
    "linked": "You can now sign in through your organisation.",
}
_RULE = f"At least {MIN_PASSWORD} characters; a few words are easier to remember than signs."


def account_page(
    account: RowMapping, judged: int, others: int, provider: Any, problem: str = "", done: str = ""
) -> str:
    """One's own account. others: how many other browsers are signed in. provider: oidc.Provider or None."""
    told = f'<p class="done" role="status">{escape(DONE[done])}</p>' if done in DONE else ""
    staff = '<a href="/admin/">Admin pages</a>' if account["role"] in ("reviewer", "admin") else ""
    sections = [_password_form()] if account["password_hash"] else []
    if provider is not None:
        sections.append(_provider_section(account, provider.settings))
    return plain_page(
        "Account",
        f"""<div class="card wide">
<nav aria-label="Pages"><a href="/app/">← Back to ranking</a>{staff}</nav>
<h1>{escape(account["login"])}</h1>
{told}{problem_line(problem)}
<dl>
<dt>Role</dt><dd>{escape(account["role"])}</dd>
<dt>Tasks judged</dt><dd>{judged}</dd>
<dt>Name in exports</dt><dd><code>{escape(account["public_id"])}</code></dd>
</dl>
{"".join(sections)}
<section>
<h2>Where you are signed in</h2>
<p>In this browser{_others(others)}. A session ends seven days after you signed in.</p>
<div class="row">
{_end_others() if others else ""}
<form method="post" action="/logout"><button type="submit" class="second">Sign out here</button></form>
</div>
</section>
</div>""",
    )


def invite_page(role: str, login: str = "", problem: str = "", provider: Any = None) -> str:
    """Where a person who was invited chooses a login and a password, or goes to the oidc.Provider."""
    elsewhere = ""
    if provider is not None:
        elsewhere = f"""
<p class="or">or</p>
<form method="post" action="/invite/oidc">
<button type="submit" class="second">Sign in with {escape(provider.settings.name)}</button></form>"""
    article = "a" if role == "reviewer" else "an"
    return plain_page(
        "Make your account",
        f"""<div class="card"><form method="post" action="/invite">
<img src="/ui/icon.svg" alt="" width="48" height="48">
<h1>Welcome</h1>
<p class="lead">You are invited as {article} {escape(role)}. Choose how you sign in.</p>
{problem_line(problem)}
<label for="login">Login</label>
<input id="login" name="login" autocomplete="username" autocapitalize="none" spellcheck="false" required
 maxlength="100" value="{escape(login, quote=True)}" aria-describedby="login-rule" autofocus>
<p class="small" id="login-rule">Letters, digits and . @ + - _; it does not appear in exported data.</p>
{_new_password()}
<button type="submit">Make my account</button>
</form>{elsewhere}</div>""",
    )


def message_page(title: str, text: str, link: str, link_text: str, refresh: bool = False) -> str:
    """A page that says one thing and links to where one goes on, by itself if `refresh`."""
    address = escape(link, quote=True)
    goes_on = f'<meta http-equiv="refresh" content="0; url={address}">' if refresh else ""
    return plain_page(
        title,
        f"""<div class="card">{goes_on}
<img src="/ui/icon.svg" alt="" width="48" height="48">
<h1>{escape(title)}</h1>
<p>{escape(text)}</p>
<a class="button" href="{address}">{escape(link_text)}</a>
</div>""",
    )


def _password_form() -> str:
    return f"""<section>
<h2 id="change">Change your password</h2>
<form method="post" action="/account/password" aria-labelledby="change">
<label for="current">Current password</label>
<input id="current" name="current" type="password" autocomplete="current-password" required maxlength="1024">
{_new_password()}
<button type="submit">Change password</button>
<p class="small">This signs you out in every other browser.</p>
</form>
</section>
"""


def _new_password() -> str:
    return f"""<label for="password">New password</label>
<input id="password" name="password" type="password" autocomplete="new-password" required
 minlength="{MIN_PASSWORD}" maxlength="1024" aria-describedby="password-rule">
<p class="small" id="password-rule">{_RULE}</p>
<label for="again">The same again</label>
<input id="again" name="again" type="password" autocomplete="new-password" required maxlength="1024">"""


def _provider_section(account: RowMapping, settings: Any) -> str:
    name = escape(settings.name)
    if account["oidc_issuer"] == settings.issuer:
        inside = f"<p>You can sign in with {name}.</p>"
    else:
        inside = f"""<p>Link this account, and you can sign in with {name} from then on.</p>
<form method="post" action="/account/link">
<button type="submit" class="second">Link with {name}</button></form>"""
    return f"<section>\n<h2>{name}</h2>\n{inside}\n</section>\n"


def _others(others: int) -> str:
    return "" if not others else " and one other" if others == 1 else f" and {others} others"


def _end_others() -> str:
    return """<form method="post" action="/account/sessions">
<button type="submit" class="second">Sign out everywhere else</button></form>"""
