"""Checks every link and anchor of the built book, and of the Markdown files outside it.

Usage: links.py BOOK, from the root of the repository. BOOK is the folder that mdbook wrote.
The exit status is 1 if a link leads nowhere. Links to other hosts are counted, not followed.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path.cwd()
# Markdown that mdbook does not build.
OUTSIDE = ["*.md", ".github/**/*.md", "backends/**/*.md", "benches/**/*.md", "deploy/**/*.md",
           "gateway/**/*.md", "tests/**/*.md", "zone-router/**/*.md"]
# Files whose text may name a page of the book, such as `docs/src/design/pull.md`.
SOURCES = ["**/*.rs", "**/*.toml", "**/*.yaml", "**/*.yml", *OUTSIDE]
# Between these lines stands a table that describes the code.
MARKER = re.compile(r"^<!-- (generated: ([a-z0-9-]+)|end generated) -->$", re.MULTILINE)


class Page(HTMLParser):
    """Links and anchors of one HTML file."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def slug(heading):
    """The anchor that GitHub and mdbook make of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def markdown(path):
    """Links and anchors of one Markdown file."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    anchors = {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    prose = re.sub(r"`[^`\n]*`", "", text)
    return re.findall(r"\]\(([^)\s]+)\)", prose), anchors


def check(origin, link, read, problems):
    """Notes a problem if a link of the file `origin` leads nowhere; whether it leads to another host."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    path = unquote(parts.path)
    target = origin if not path else (origin.parent / path)
    if target.is_dir():
        target = target / "index.html" if (target / "index.html").exists() else target
    if not target.exists():
        problems.append(f"{origin.relative_to(ROOT)}: {link} leads nowhere")
    elif parts.fragment and target.suffix in (".html", ".md"):
        if unquote(parts.fragment) not in read(target.resolve())[1]:
            problems.append(f"{origin.relative_to(ROOT)}: {link}: no such anchor")
    return False


def matching(patterns):
    """Files of the repository, without what is built."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(path for path in found if path.relative_to(ROOT).parts[0] != "target" and path.is_file())


def main(book):
    problems, elsewhere, links, pages = [], 0, 0, {}

    def read(path):
        if path not in pages:
            if path.suffix == ".html":
                page = Page(path)
                pages[path] = (page.links, page.anchors)
            else:
                pages[path] = markdown(path)
        return pages[path]

    html = [path for path in sorted(book.rglob("*.html")) if path.name not in ("404.html", "toc.html")]
    for path in html + matching(OUTSIDE):
        for link in read(path)[0]:
            links += 1
            elsewhere += check(path, link, read, problems)
    for path in matching(SOURCES):
        for named in re.findall(r"\bdocs/src/[\w./-]+\.md\b", path.read_text(encoding="utf-8")):
            if not (ROOT / named).exists():
                problems.append(f"{path.relative_to(ROOT)}: names {named}, which is not there")
    for path in sorted((ROOT / "docs/src").rglob("*.md")):
        inside = None
        for match in MARKER.finditer(path.read_text(encoding="utf-8")):
            begins = match.group(2)
            if (inside is None) == (begins is None):
                problems.append(f"{path.relative_to(ROOT)}: {match.group(0)} is out of place")
            inside = begins
        if inside is not None:
            problems.append(f"{path.relative_to(ROOT)}: the generated table {inside} does not end")
    print("\n".join(problems))
    print(f"docs/check: {len(html)} pages, {links} links ({elsewhere} to other hosts), {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
