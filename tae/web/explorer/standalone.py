"""The explorer without a server: as a part of a report, or as a small page of its own for a notebook.

Nothing is fetched, and the pages work under a content security policy that allows nothing but this script, named by its
hash, inline styles, and images from data URIs.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence

from tae.web.component import read_script, read_style
from tae.web.explorer.payload import Payload, for_json

_EXPORT = "\nexport default explorer;\n"
"""The last line of the script: all that a module needs and a script inside a page must not have."""


def fragment(made: Payload, element_id: str) -> str:
    """The place of one explorer and its data; the page needs `style_tag` and, after all fragments, `script_tag` once.

    Maps that are not in the payload cannot be chosen. The id is unique within its page; it is of ASCII letters, digits,
    - and _, else ValueError.
    """
    if not (element_id.isascii() and element_id.replace("-", "").replace("_", "").isalnum()):
        raise ValueError(f"element_id must be of ASCII letters, digits, - and _, got {element_id!r}")
    data = _json_in_html({**for_json(made), "on_demand": False})
    return f'<div id="{element_id}"></div>\n<script type="application/json" id="{element_id}-data">{data}</script>\n'


def script_text(element_ids: Sequence[str]) -> str:
    """The script that mounts the fragments of these names, without its tag.

    ValueError if the component's file has been changed so that it cannot stand inside a page.
    """
    code = read_script("explorer")
    if not code.endswith(_EXPORT) or "</script" in code.lower() or "<!--" in code:
        raise ValueError(f"explorer.js must end with {_EXPORT.strip()!r} and hold no HTML, got {code[-60:]!r}")
    mount = f"""
for (const id of {json.dumps(list(element_ids))}) {{
  const data = JSON.parse(document.getElementById(id + "-data").textContent);
  explorer({{ data, parentElement: document.getElementById(id), setStateValue: () => {{}} }});
}}
"""
    return code.removesuffix(_EXPORT) + mount


def script_hash(text: str) -> str:
    """The source that allows this script in a content security policy: 'sha256-...'."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_tag(text: str) -> str:
    """A module script for a page that opens offline."""
    return f'<script type="module">{text}</script>\n'


def style_tag() -> str:
    """The explorer's style sheet for a page that opens offline."""
    return f"<style>{read_style('explorer')}</style>\n"


def page(made: Payload | Sequence[Payload], title: str) -> str:
    """A whole page with one explorer or several, one below the other; the title may be a stranger's text."""
    payloads = [made] if isinstance(made, dict) else made
    places = {f"explorer-{number}": one for number, one in enumerate(payloads)}
    text = script_text([*places])
    policy = f"default-src 'none'; script-src {script_hash(text)}; style-src 'unsafe-inline'; img-src data:"
    body = "<hr>\n".join(fragment(one, place) for place, one in places.items())
    style = "<style>:root { color-scheme: light dark; } body { margin: 16px; background: Canvas; }</style>\n"
    return html_page(html.escape(title), policy, style + style_tag(), body + script_tag(text))


def html_page(title: str, policy: str, head: str, body: str) -> str:
    """A whole page under a content security policy; title, head and body are HTML."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
{head}</head>
<body>
{body}</body>
</html>
"""


def _json_in_html(value: object) -> str:
    """JSON that cannot end, or begin, anything in the page around it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
