"""Texts that operators wrote, made safe: Markdown to HTML that runs nothing, and to plain text.

Raw HTML is shown as text (CommonMark without HTML), and what comes out passes a list of allowed
elements once more. Links open nothing but http, https and mailto, and earn nothing by it.
"""

import re
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

_TAGS = {
    "a", "b", "blockquote", "br", "code", "del", "em", "h4", "hr", "i", "li", "ol", "p", "pre",
    "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
_REL = "nofollow noopener noreferrer ugc"
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What XML 1.0 cannot hold, and what no text needs."""

_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Marks that would turn the text around them."""

_SPACE = re.compile(r"[ \t]*\n[ \t]*|[ \t]+")


def _parser() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True})
    return made.enable(["table", "strikethrough"]).disable("image")


_MARKDOWN = _parser()
_HEADING = re.compile(r"<(/?)h[1-6]>")


def clean(text: str) -> str:
    """``text`` without characters that XML refuses or that turn the direction of writing."""
    return _DIRECTION.sub("", _FORBIDDEN.sub("", text))


@lru_cache(maxsize=1024)
def rendered(text: str) -> Markup:
    """Markdown as HTML that is safe to put into a page."""
    html = _HEADING.sub(r"<\1h4>", _MARKDOWN.render(clean(text)))
    safe = nh3.clean(html, tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=_SCHEMES, link_rel=_REL)
    return Markup(safe.strip())  # noqa: S704 - made safe just now


@lru_cache(maxsize=1024)
def plain(text: str) -> str:
    """Markdown as one piece of plain text, for calendars and summaries."""
    pieces: list[str] = []
    for token in _MARKDOWN.parse(clean(text)):
        if token.type == "inline":
            pieces.append("".join(
                "\n" if child.type in ("softbreak", "hardbreak") else child.content
                for child in token.children or ()
            ))  # fmt: skip
        elif token.type in ("fence", "code_block"):
            pieces.append(token.content.strip())
    return "\n".join(pieces).strip()


def shortened(text: str, most: int = 200) -> str:
    """``text`` on one line of at most ``most`` characters, cut at a word."""
    line = _SPACE.sub(" ", text).strip()
    if len(line) <= most:
        return line
    return line[: most - 1].rsplit(" ", 1)[0].rstrip(",.;: ") + "…"
