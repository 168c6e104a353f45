"""The frame of every HTML report: one file with its own style sheet, no script, no network, and what stands in it."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from tokexp.report.style import STYLE


def page(title: str, body: str, *, is_broad: bool = False) -> str:
    """Return a whole HTML page; `body` is markup. `is_broad`: for tables with many columns."""
    main = '<main class="broad">' if is_broad else "<main>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{main}\n"
        f"{body}</main>\n</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    """Return a section with a heading, or nothing if its body (markup) is empty."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>\n" if body else ""


def header(name: str, ref: str, facts: Iterable[str], card: Iterable[str]) -> str:
    """Return the top of a page: what it is about, facts in a row, and the spec's own words in a box."""
    lines = "".join(f"<p>{escape(line)}</p>" for line in card if line)
    tags = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    box = f'<div class="card">{lines}</div>' if lines else ""
    head = f"<h1>{escape(name)} <small>{escape(ref)}</small></h1>"
    return f'<header>\n{head}\n<ul class="facts">{tags}</ul>\n{box}\n</header>\n'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,), marks: Sequence[str] = ()
) -> str:
    """Return a table of plain texts; the columns in `text` are set to the left, the others are numbers.

    marks: for each row, the word of its class `row-<mark>`, or nothing.
    """

    def cells(tag: str, row: Sequence[str]) -> str:
        classes = ["" if place in text else ' class="number"' for place in range(len(row))]
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(classes, row, strict=True))

    body = "".join(f"<tr{_row_class(marks, place)}>{cells('td', row)}</tr>" for place, row in enumerate(rows))
    return f'<div class="wide"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def _row_class(marks: Sequence[str], place: int) -> str:
    return f' class="row-{marks[place]}"' if marks and marks[place] else ""


def folded(summary: str, body: str, *, is_open: bool = False) -> str:
    """Return markup that is shown when its summary is clicked."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{body}</details>"


def verbatim(text: str) -> str:
    """Return a text as it is, line by line."""
    return f"<pre>{escape(text)}</pre>"


def lab_card(spec_text: str) -> list[str]:
    """Return the comment lines at the top of a spec: the claim, the paper, the cost."""
    lines = []
    for line in spec_text.splitlines():
        if not line.startswith("#"):
            break
        if "yaml-language-server" not in line:
            lines.append(line.removeprefix("#").strip())
    return lines


def provenance(found: Mapping[str, Any], rows: Mapping[str, object]) -> str:
    """Return where something came from: `rows`, then what was recorded of the code, the machine and the command."""
    git = found.get("git") or {}
    commit = f"{git.get('commit', '')}{' with uncommitted changes' if git.get('dirty') else ''}".strip()
    recorded = {
        "commit": commit, "host": found.get("host"), "system": found.get("platform"), "Python": found.get("python"),
        "command": " ".join(found.get("argv") or []),
        "packages": ", ".join(f"{name} {number}" for name, number in (found.get("versions") or {}).items()),
    }  # fmt: skip
    pairs = {**rows, **recorded}.items()
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in pairs if value)
    return f"<dl>{items}</dl>"
