#!/usr/bin/env python3
"""Makes a .docx file from simple Markdown."""

import re
import sys
import zipfile
from xml.sax.saxutils import escape

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml"

TYPES = f"""{HEAD}<Types xmlns="{PACKAGE}/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="xml" ContentType="application/xml"/>
<Override PartName="/word/document.xml" ContentType="{WORD}.document.main+xml"/>
<Override PartName="/word/styles.xml" ContentType="{WORD}.styles+xml"/>
<Override PartName="/word/numbering.xml" ContentType="{WORD}.numbering+xml"/>
</Types>"""

RELATIONS = f"""{HEAD}<Relationships xmlns="{PACKAGE}/relationships">
<Relationship Id="rId1" Type="{OFFICE}/officeDocument" Target="word/document.xml"/>
</Relationships>"""

PARTS = f"""{HEAD}<Relationships xmlns="{PACKAGE}/relationships">
<Relationship Id="rId1" Type="{OFFICE}/styles" Target="styles.xml"/>
<Relationship Id="rId2" Type="{OFFICE}/numbering" Target="numbering.xml"/>
</Relationships>"""


def styles():
    found = [
        '<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/>'
        '<w:pPr><w:spacing w:after="120"/></w:pPr>'
        '<w:rPr><w:rFonts w:ascii="Calibri" w:hAnsi="Calibri"/><w:sz w:val="22"/></w:rPr></w:style>'
    ]
    for level, size in ((1, 36), (2, 30), (3, 26)):
        found.append(
            f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/>'
            f'<w:basedOn w:val="Normal"/><w:next w:val="Normal"/><w:pPr><w:keepNext/><w:spacing w:before="240" w:after="80"/>'
            f'<w:outlineLvl w:val="{level - 1}"/></w:pPr><w:rPr><w:b/><w:sz w:val="{size}"/></w:rPr></w:style>'
        )
    return f"{HEAD}<w:styles {W}>{''.join(found)}</w:styles>"


def numbering():
    kinds = [("bullet", "•"), ("decimal", "%1.")]
    abstract = "".join(
        f'<w:abstractNum w:abstractNumId="{at}"><w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="{kind}"/>'
        f'<w:lvlText w:val="{sign}"/><w:pPr><w:ind w:left="720" w:hanging="360"/></w:pPr></w:lvl></w:abstractNum>'
        for at, (kind, sign) in enumerate(kinds)
    )
    numbers = "".join(f'<w:num w:numId="{at + 1}"><w:abstractNumId w:val="{at}"/></w:num>' for at in range(len(kinds)))
    return f"{HEAD}<w:numbering {W}>{abstract}{numbers}</w:numbering>"


def runs(line):
    made = []
    for piece in re.split(r"(\*\*.+?\*\*|\*[^*]+?\*)", line):
        if not piece:
            continue
        look = ""
        if piece.startswith("**") and piece.endswith("**") and len(piece) > 4:
            look, piece = "<w:rPr><w:b/></w:rPr>", piece[2:-2]
        elif piece.startswith("*") and piece.endswith("*") and len(piece) > 2:
            look, piece = "<w:rPr><w:i/></w:rPr>", piece[1:-1]
        made.append(f'<w:r>{look}<w:t xml:space="preserve">{escape(piece)}</w:t></w:r>')
    return "".join(made)


def paragraph(line, look=""):
    return f"<w:p>{look and f'<w:pPr>{look}</w:pPr>'}{runs(line)}</w:p>"


def table(rows):
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    cells = [row for row in cells if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    wide = max(len(row) for row in cells)
    lines = "".join(
        f'<w:{side} w:val="single" w:sz="4" w:color="808080"/>'
        for side in ("top", "left", "bottom", "right", "insideH", "insideV")
    )
    made = "".join(
        "<w:tr>" + "".join(f"<w:tc><w:tcPr/>{paragraph(cell)}</w:tc>" for cell in row + [""] * (wide - len(row))) + "</w:tr>"
        for row in cells
    )
    grid = "<w:gridCol/>" * wide
    return f"<w:tbl><w:tblPr><w:tblBorders>{lines}</w:tblBorders></w:tblPr><w:tblGrid>{grid}</w:tblGrid>{made}</w:tbl><w:p/>"


def numbered(which):
    return f'<w:numPr><w:ilvl w:val="0"/><w:numId w:val="{which}"/></w:numPr>'


def body(markdown):
    made, plain, rows = [], [], []

    def flush():
        if plain:
            made.append(paragraph(" ".join(plain)))
            plain.clear()
        if rows:
            made.append(table(rows))
            rows.clear()

    for line in markdown.splitlines():
        heading = re.match(r"(#{1,3})\s+(.*)", line)
        bullet = re.match(r"\s*[-*]\s+(.*)", line)
        number = re.match(r"\s*\d+[.)]\s+(.*)", line)
        if line.lstrip().startswith("|"):
            if plain:
                flush()
            rows.append(line)
            continue
        if heading or bullet or number or not line.strip():
            flush()
        if heading:
            made.append(paragraph(heading[2], f'<w:pStyle w:val="Heading{len(heading[1])}"/>'))
        elif bullet:
            made.append(paragraph(bullet[1], numbered(1)))
        elif number:
            made.append(paragraph(number[1], numbered(2)))
        elif line.strip():
            if rows:
                flush()
            plain.append(line.strip())
    flush()
    return "".join(made)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: make.py FILE.md FILE.docx")
    with open(sys.argv[1], encoding="utf-8") as file:
        made = body(file.read())
    page = '<w:sectPr><w:pgSz w:w="11906" w:h="16838"/><w:pgMar w:top="1440" w:right="1440" w:bottom="1440" w:left="1440"/></w:sectPr>'
    document = f"{HEAD}<w:document {W}><w:body>{made}{page}</w:body></w:document>"
    with zipfile.ZipFile(sys.argv[2], "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            ("[Content_Types].xml", TYPES),
            ("_rels/.rels", RELATIONS),
            ("word/document.xml", document),
            ("word/_rels/document.xml.rels", PARTS),
            ("word/styles.xml", styles()),
            ("word/numbering.xml", numbering()),
        ):
            archive.writestr(name, content)


main()
