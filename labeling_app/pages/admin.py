"""The admin area: a Gradio application of its own, one route a page. See desk.py for what all pages share."""

from __future__ import annotations

from typing import Any

import gradio as gr

from labeling_app.pages import (
    agreement,
    audit_log,
    bias,
    progress,
    projects,
    quality,
    records,
    review,
    roster,
    settings,
)
from labeling_app.pages.desk import Stored
from labeling_app.pages.parts import PAGES

HEAD = """
<link rel="icon" href="/ui/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/ui/admin.css">
<script type="module" src="/ui/admin.js"></script>
<meta name="color-scheme" content="light dark">
"""
_DRAWN = {
    "": projects.draw,
    "progress": progress.draw,
    "agreement": agreement.draw,
    "annotators": quality.draw,
    "bias": bias.draw,
    "review": review.draw,
    "settings": settings.draw,
    "records": records.draw,
    "accounts": roster.draw,
    "audit": audit_log.draw,
}


def admin_pages(store: Stored) -> Any:
    """A gr.Blocks with every admin page. Nobody's text is in it: pages are filled when they are opened."""
    with gr.Blocks(
        title="alignkit labeling · Admin", analytics_enabled=False, delete_cache=(3600, 3600)
    ) as blocks:
        _DRAWN[""](store, blocks)
    for path, name, _, _ in PAGES[1:]:
        with blocks.route(name, path, show_in_navbar=False) as page:
            _DRAWN[path](store, page)
    # Gradio looks whether a path that a browser names is one of an upload only where it was launched, and an
    # application that is mounted never is: without this a handler would be given any file of this machine.
    blocks.has_launched = True
    return blocks
