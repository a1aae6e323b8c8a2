"""Reads a report as a browser would, enough of it to check what a reader sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "wbr", "input", "hr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    def all(self, tag: str | None = None, **wanted: str) -> list[Element]:
        """Elements below this one, in order; `class_` matches one of the classes."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if (tag is None or child.tag == tag) and all(
                    child.has(key, value) for key, value in wanted.items()
                ):
                    found.append(child)
                found += child.all(tag, **wanted)
        return found

    def has(self, key: str, value: str) -> bool:
        if key == "class_":
            return value in (self.attributes.get("class") or "").split()
        return self.attributes.get(key.replace("_", "-")) == value

    @property
    def text(self) -> str:
        parts = (child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(" ".join(parts).split())

    @property
    def value(self) -> float:
        """The number of the first <data> below."""
        return float(self.all("data")[0].attributes["value"])


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.stack = [Element("document", {})]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.stack[-1].children.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag, attrs):
        self.stack[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        open_tag = self.stack.pop().tag
        assert open_tag == tag, f"</{tag}> closes <{open_tag}> at {self.getpos()}"

    def handle_data(self, data):
        self.stack[-1].children.append(data)


def read(path: Path) -> Element:
    """Parse a page; tags that are not closed in their order are an error."""
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    assert len(parser.stack) == 1, f"<{parser.stack[-1].tag}> is never closed"
    return parser.stack[0]


def by_id(page: Element, name: str) -> Element:
    """The element with this id."""
    (found,) = page.all(id=name)
    return found
