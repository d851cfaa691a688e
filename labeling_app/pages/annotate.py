"""The annotate page: Gradio's shell around one gr.HTML, in which ui/board.js does everything.

It fires no Gradio event at all, not even a load: a page that has fired one is reloaded by Gradio after an
outage, and unsaved work would be lost. The board talks to api.py with fetch.
"""

from __future__ import annotations

from typing import Any

HEAD = """
<link rel="icon" href="/ui/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/ui/board.css">
<link rel="stylesheet" href="/ui/start.css">
<link rel="modulepreload" href="/ui/board.js">
<meta name="color-scheme" content="light dark">
"""
CSS = """
.gradio-container { overflow: visible !important; }
.gradio-container .main.fillable.app {
  padding: 0 !important; max-width: none !important; margin: 0 !important;
}
.gradio-container .html-container { padding: 0 !important; }
footer { display: none !important; }
"""


def annotate_page() -> Any:
    """A gr.Blocks with the board and nothing else. The template is constant: no text of anyone's is in it."""
    import gradio as gr

    with gr.Blocks(title="alignkit labeling", analytics_enabled=False) as page:
        gr.HTML(
            html_template='<div class="rb"></div>',
            apply_default_css=False,
            js_on_load='import("/ui/board.js").then(board => board.mount(element.querySelector(".rb")))',
        )
    return page


def theme() -> Any:
    """Gradio's base theme with the system's fonts: nothing is fetched from a font service."""
    import gradio as gr

    return gr.themes.Base(
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
    )
