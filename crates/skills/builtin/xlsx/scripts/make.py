#!/usr/bin/env python3
"""Makes an .xlsx file of CSV files, a sheet each."""

import csv
import os
import re
import sys
import zipfile
from xml.sax.saxutils import escape, quoteattr

HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml"
NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?([eE][-+]?\d+)?")

STYLES = f"""{HEAD}<styleSheet {S}>
<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/><name val="Calibri"/></font></fonts>
<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>
<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>
<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>
<cellXfs count="2"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>
<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/></cellXfs>
</styleSheet>"""


def letters(column):
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name


def cell(place, value, look):
    if value.startswith("=") and len(value) > 1:
        return f'<c r="{place}"{look}><f>{escape(value[1:])}</f></c>'
    if NUMBER.fullmatch(value):
        return f'<c r="{place}"{look}><v>{value}</v></c>'
    if not value:
        return ""
    clean = "".join(sign for sign in value if sign >= " " or sign in "\t\n")
    return f'<c r="{place}"{look} t="inlineStr"><is><t xml:space="preserve">{escape(clean)}</t></is></c>'


def sheet(path):
    made = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file), 1):
            look = ' s="1"' if number == 1 else ""
            cells = "".join(cell(f"{letters(at)}{number}", value, look) for at, value in enumerate(row))
            made.append(f'<row r="{number}">{cells}</row>')
    return f"{HEAD}<worksheet {S}><sheetData>{''.join(made)}</sheetData></worksheet>"


def names(paths):
    used = []
    for path in paths:
        name = re.sub(r"[\[\]:*?/\\]", "_", os.path.splitext(os.path.basename(path))[0])[:31] or "Sheet"
        base, count = name, 1
        while name.lower() in (one.lower() for one in used):
            count += 1
            name = f"{base[:27]} {count}"
        used.append(name)
    return used


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: make.py FILE.xlsx FILE.csv...")
    paths = sys.argv[2:]
    named = list(enumerate(names(paths), 1))
    types = "".join(
        f'<Override PartName="/xl/worksheets/sheet{at}.xml" ContentType="{EXCEL}.worksheet+xml"/>' for at, _ in named
    )
    listed = "".join(f'<sheet name={quoteattr(name)} sheetId="{at}" r:id="rId{at}"/>' for at, name in named)
    parts = "".join(
        f'<Relationship Id="rId{at}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{at}.xml"/>' for at, _ in named
    )
    with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'{HEAD}<Types xmlns="{PACKAGE}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{EXCEL}.sheet.main+xml"/>'
            f'<Override PartName="/xl/styles.xml" ContentType="{EXCEL}.styles+xml"/>{types}</Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'{HEAD}<Relationships xmlns="{PACKAGE}/relationships">'
            f'<Relationship Id="rId1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr("xl/workbook.xml", f'{HEAD}<workbook {S} xmlns:r="{OFFICE}"><sheets>{listed}</sheets></workbook>')
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'{HEAD}<Relationships xmlns="{PACKAGE}/relationships">{parts}'
            f'<Relationship Id="rId{len(named) + 1}" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
        )
        archive.writestr("xl/styles.xml", STYLES)
        for (at, _), path in zip(named, paths):
            archive.writestr(f"xl/worksheets/sheet{at}.xml", sheet(path))


main()
