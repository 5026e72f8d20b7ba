"""HTML pages with tables and plots, in one file that needs no network."""

import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: 0.8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
"""


def write(path: Path, title: str, sections: Iterable[tuple[str, str]]) -> None:
    """Write a page.

    Parameters
    ----------
    path
        The file.
    title
        Text of the title.
    sections
        Heading as text and content as HTML of each section; an empty heading is left out.
    """
    parts = [f"<h2>{html.escape(heading)}</h2>\n{content}" if heading else content for heading, content in sections]
    path.write_text(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n",
        encoding="utf-8",
    )


def paragraph(text: str) -> str:
    """Return a paragraph as HTML."""
    return f"<p>{html.escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as HTML; cells are texts."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def plot(figure: "Figure", description: str) -> str:
    """Return a plot as HTML, an inline SVG that is the same for the same figure."""
    import matplotlib as mpl  # noqa: PLC0415  a second to import, for pages only

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "page", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight")
    svg = text.getvalue()
    return f'<figure role="img" aria-label="{html.escape(description)}">{svg[svg.index("<svg") :]}</figure>'
