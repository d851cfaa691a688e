"""The page that tells people about the HTTP API, written from its OpenAPI description; no script."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from labeling_app.pages.login import plain_page


def docs_page(description: dict[str, Any], address: str) -> str:
    """Every path of `description` with its parameters and a call by curl; `address`: of this server."""
    parts = [
        _operation(path, method, operation, address)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    return plain_page(
        "HTTP API",
        f"""<article class="docs">
<h1>HTTP API</h1>
<p>For programs: tasks in, judgments out. Every request carries a token, which the person who runs this server
makes with <code>alignkit label token add NAME</code> (<code>--write</code> to add tasks,
<code>--project P</code> for one project alone):</p>
<pre tabindex="0"><code>Authorization: Bearer akl_…</code></pre>
<p>An error is JSON with a <code>message</code>: 401 no valid token, 403 the token only reads, 404 no such
project for this token, 413 more than 16 MiB, 422 a fault in what was sent, 429 too many wrong tokens, 503 the
database does not answer and nothing was stored.</p>
<p><code>alignkit label webhook add ADDRESS --project P</code> has every judgment sent to an address, signed,
so that nobody needs to ask. For programs that write clients: <a href="/v1/openapi.json">openapi.json</a>.</p>
{"".join(parts)}
</article>""",
        "docs",
    )


def _operation(path: str, method: str, operation: dict[str, Any], address: str) -> str:
    rows = "".join(_parameter(parameter) for parameter in operation.get("parameters", []))
    table = f"<table><tr><th>Parameter</th><th>Meaning</th></tr>{rows}</table>" if rows else ""
    sends = method == "post"
    lines = ["curl -H 'Authorization: Bearer akl_…'", f"  {address}{path.replace('{name}', 'default')}"]
    if sends:
        lines = [*lines, "  -H 'Content-Type: application/x-ndjson' --data-binary @tasks.jsonl"]
    text = " \\\n".join(lines)
    return f"""<section>
<h2><span class="method {method}">{method.upper()}</span> <code>{escape(path)}</code></h2>
<p>{_marked(" ".join(operation.get("description", "").split()))}</p>
{table}
<pre tabindex="0"><code>{escape(text, quote=False)}</code></pre>
</section>
"""


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    default = f" Default: {str(schema['default']).lower()}." if schema.get("default") is not None else ""
    meaning = parameter.get("description", "The project." if parameter["in"] == "path" else "")
    limits = f" At most {schema['maximum']}." if schema.get("maximum", 1e9) < 1e6 else ""
    name, text = escape(parameter["name"]), _marked(f"{meaning}{limits}{default}".strip())
    return f"<tr><td><code>{name}</code></td><td>{text}</td></tr>"


def _marked(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
