#!/usr/bin/env python3
"""Lists the sheets of an .xlsx file, or prints one of them as CSV."""

import csv
import re
import sys
import zipfile
from xml.etree import ElementTree

S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
P = "{http://schemas.openxmlformats.org/package/2006/relationships}"


def column(reference):
    number = 0
    for letter in re.match(r"[A-Z]+", reference)[0]:
        number = number * 26 + ord(letter) - 64
    return number - 1


def joined(element):
    return "".join(node.text or "" for node in element.iter(S + "t"))


def sheets(archive):
    relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    targets = {one.get("Id"): one.get("Target") for one in relations.iter(P + "Relationship")}
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    for sheet in book.iter(S + "sheet"):
        target = targets[sheet.get(R + "id")]
        yield sheet.get("name"), target.lstrip("/") if target.startswith("/") else "xl/" + target


def rows(archive, part):
    shared = []
    if "xl/sharedStrings.xml" in archive.namelist():
        shared = [joined(one) for one in ElementTree.fromstring(archive.read("xl/sharedStrings.xml")).iter(S + "si")]
    at = 0
    for row in ElementTree.fromstring(archive.read(part)).iter(S + "row"):
        number = int(row.get("r", at + 1))
        for _ in range(min(number - at - 1, 100_000)):
            yield []
        at, values = number, []
        for cell in row.iter(S + "c"):
            place = column(cell.get("r")) if cell.get("r") else len(values)
            values.extend([""] * (place - len(values)))
            kind, value = cell.get("t"), cell.find(S + "v")
            if kind == "inlineStr":
                values.append(joined(cell))
            elif value is None:
                values.append("")
            elif kind == "s":
                values.append(shared[int(value.text)])
            elif kind == "b":
                values.append("TRUE" if value.text == "1" else "FALSE")
            else:
                values.append(value.text or "")
        yield values


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: rows.py FILE.xlsx [SHEET]")
    with zipfile.ZipFile(sys.argv[1]) as archive:
        found = list(sheets(archive))
        if len(sys.argv) == 2:
            for name, part in found:
                all_rows = list(rows(archive, part))
                wide = max((len(row) for row in all_rows), default=0)
                print(f"{name}: {len(all_rows)} rows, {wide} columns")
            return
        parts = dict(found)
        if sys.argv[2] not in parts:
            sys.exit(f"no sheet {sys.argv[2]!r}; there are: {', '.join(parts)}")
        csv.writer(sys.stdout).writerows(rows(archive, parts[sys.argv[2]]))


main()
