#!/usr/bin/env python3
"""Prints the text of a .pptx file, slide by slide."""

import posixpath
import sys
import zipfile
from xml.etree import ElementTree

A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
M = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
P = "{http://schemas.openxmlformats.org/package/2006/relationships}"


def relations(archive, part):
    folder, name = posixpath.split(part)
    listed = f"{folder}/_rels/{name}.rels"
    if listed not in archive.namelist():
        return {}
    found = {}
    for one in ElementTree.fromstring(archive.read(listed)).iter(P + "Relationship"):
        target = one.get("Target")
        path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
        found[one.get("Id")] = (one.get("Type"), path)
    return found


def lines(archive, part):
    for paragraph in ElementTree.fromstring(archive.read(part)).iter(A + "p"):
        text = "".join(node.text or "" for node in paragraph.iter(A + "t")).strip()
        if text:
            yield text


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: text.py FILE.pptx")
    with zipfile.ZipFile(sys.argv[1]) as archive:
        known = relations(archive, "ppt/presentation.xml")
        deck = ElementTree.fromstring(archive.read("ppt/presentation.xml"))
        for number, slide in enumerate(deck.iter(M + "sldId"), 1):
            part = known[slide.get(R + "id")][1]
            print(f"# Slide {number}")
            for line in lines(archive, part):
                print(line)
            for kind, path in relations(archive, part).values():
                if kind.endswith("/notesSlide"):
                    for line in lines(archive, path):
                        print("> " + line)
            print()


main()
