"""Accounts: who there is and in what role, closing and opening them, and links that invite others."""

from __future__ import annotations

from typing import Any

import gradio as gr

from alignment.errors import UserError
from alignment.report.text import escape
from labeling_app.pages.desk import Desk, Stored, Update, Visit, html
from labeling_app.pages.parts import Cell, Html, badge, day, heading, join, table, told
from labeling_app.store import invitations, people, roster
from labeling_app.store.database import utcnow
from labeling_app.store.models import ROLES

MAX_DAYS = 90


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    desk = Desk(store, "accounts")
    with gr.Column(elem_classes="ad-panel"):
        html(
            heading(
                "Invite somebody", "A link makes one account, once. Send it where only that person reads it."
            )
        )
        with gr.Row():
            role = gr.Radio(list(ROLES), value="annotator", label="Role")
            days = gr.Number(7, label="Valid for days", precision=0, minimum=1, maximum=MAX_DAYS)
        invite = gr.Button("Make an invitation", variant="primary", elem_classes="ad-narrow")
        made = html("")
        waiting = html("")
        with gr.Row(visible=False) as ending:
            number = gr.Dropdown([], label="Open invitation")
            withdraw = gr.Button("Withdraw it", elem_classes="ad-narrow")
    everybody = html("")
    with gr.Column(elem_classes="ad-panel"):
        html(heading("Change an account", "It counts from the person's next request on. Judgments stay."))
        with gr.Row():
            who = gr.Dropdown([], label="Account")
            to = gr.Radio(list(ROLES), label="Role")
        with gr.Row():
            change = gr.Button("Give this role")
            close = gr.Button("Close the account")
            reopen = gr.Button("Open it again")
    outputs = [waiting, ending, number, everybody, who]

    def fill(visit: Visit) -> Update:
        with visit.store.read() as connection:
            there = roster.everybody(connection, utcnow())
            still = invitations.open_invitations(connection, utcnow())
        names = [
            (f"{one['login']} ({one['role']}{'' if one['active'] else ', closed'})", one["login"])
            for one in there
        ]
        numbers = [(f"number {one['id']}, {one['role']}", one["id"]) for one in still]
        return {
            waiting: _open(still),
            ending: gr.update(visible=bool(still)),
            number: gr.update(choices=numbers, value=None),
            everybody: _everybody(there),
            who: gr.update(choices=names),
        }

    def invited(visit: Visit, role: str | None, days: Any) -> Update:
        if not isinstance(days, int | float) or not 1 <= days <= MAX_DAYS:
            raise UserError(f"an invitation is valid for 1 to {MAX_DAYS} days")
        with visit.store.write() as tx:
            token = invitations.invite(tx, utcnow(), role or "", days, visit.account)
        shown = _invitation(f"{visit.base}/invite/{token}")
        return {desk.notice: told(f"The link for one new {role} is ready."), made: shown, **fill(visit)}

    def withdrawn(visit: Visit, which: Any) -> Update:
        if not isinstance(which, int):
            raise UserError("choose an invitation")
        with visit.store.write() as tx:
            invitations.withdraw(tx, utcnow(), which, visit.account["public_id"])
        return {
            desk.notice: told("The invitation is withdrawn."),
            made: gr.update(value="", visible=False),
            **fill(visit),
        }

    def given(visit: Visit, login: str | None, role: str | None) -> Update:
        with visit.store.write() as tx:
            people.set_role(tx, utcnow(), _chosen(login), role or "", visit.account["public_id"])
        return {desk.notice: told(f"{login} is {role} now."), **fill(visit)}

    def switched(visit: Visit, login: str | None, active: bool) -> Update:
        if login == visit.account["login"] and not active:
            raise UserError("this is your own account; another admin can close it")
        with visit.store.write() as tx:
            people.set_active(tx, utcnow(), _chosen(login), active, visit.account["public_id"])
        state = "open" if active else "closed, and signed out everywhere"
        return {desk.notice: told(f"{login}'s account is {state}."), **fill(visit)}

    desk.load(blocks, fill, outputs, project=False)
    desk.on(invite.click, invited, [role, days], [made, *outputs])
    desk.on(withdraw.click, withdrawn, [number], [made, *outputs])
    desk.on(change.click, given, [who, to], outputs)
    desk.on(close.click, lambda visit, login: switched(visit, login, False), [who], outputs)
    desk.on(reopen.click, lambda visit, login: switched(visit, login, True), [who], outputs)


def _invitation(link: str) -> Html:
    """The link in a box of its own, named: the label of Gradio's text box names its copy button instead."""
    return Html(
        '<p class="ad-invited"><label for="ad-invited">Invitation link (shown only now: copy it)</label>'
        f'<input id="ad-invited" readonly value="{escape(link)}"></p>'
    )


def _chosen(login: str | None) -> str:
    if not login:
        raise UserError("choose an account")
    return login


def _open(still: list[Any]) -> Html:
    if not still:
        return Html("")
    rows: list[list[Cell]] = [
        [f"number {one['id']}", one["role"], one["made_by"] or "command line", day(one["expires_at"])]
        for one in still
    ]
    return table(["Invitation", "Role", "Made by", "Valid until (UTC)"], rows, "Open invitations")


def _everybody(there: list[Any]) -> Html:
    rows: list[list[Cell]] = [
        [
            one["login"],
            one["role"],
            badge("open", "good") if one["active"] else badge("closed"),
            one["judged"],
            one["sessions"],
            Html(f"<code>{escape(one['public_id'])}</code>"),
            "provider" if one["elsewhere"] else "password",
            day(one["created_at"]),
        ]
        for one in there
    ]
    columns = ["Login", "Role", "State", "Judged", "Browsers", "Name in exports", "Signs in by", "Made (UTC)"]
    return join([heading(f"{len(rows):,} accounts"), table(columns, rows, "Accounts")])
