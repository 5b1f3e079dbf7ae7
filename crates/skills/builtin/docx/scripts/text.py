#!/usr/bin/env python3
"""Prints the text of a .docx file as simple Markdown."""

import sys
import zipfile
from xml.etree import ElementTree

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def text(element):
    parts = []
    for node in element.iter():
        if node.tag == W + "t":
            parts.append(node.text or "")
        elif node.tag == W + "tab":
            parts.append("\t")
        elif node.tag in (W + "br", W + "cr"):
            parts.append("\n")
    return "".join(parts)


def paragraph(element):
    style = element.find(f"{W}pPr/{W}pStyle")
    name = "" if style is None else style.get(W + "val", "")
    line = text(element).strip()
    if not line:
        return ""
    if name.lower().startswith("heading") and name[-1:].isdigit():
        return "#" * int(name[-1]) + " " + line
    if name == "Title":
        return "# " + line
    listed = element.find(f"{W}pPr/{W}numPr") is not None or name.startswith("List")
    return "- " + line if listed else line


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: text.py FILE.docx")
    with zipfile.ZipFile(sys.argv[1]) as archive:
        body = ElementTree.fromstring(archive.read("word/document.xml")).find(W + "body")
    for element in body:
        if element.tag == W + "p":
            print(paragraph(element))
        elif element.tag == W + "tbl":
            for row in element.iter(W + "tr"):
                cells = [" ".join(text(cell).split()) for cell in row.findall(W + "tc")]
                print("| " + " | ".join(cells) + " |")
            print()


main()
