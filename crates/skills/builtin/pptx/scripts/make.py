#!/usr/bin/env python3
"""Makes a .pptx file from an outline."""

import re
import sys
import zipfile
from xml.sax.saxutils import escape

HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
M = "http://schemas.openxmlformats.org/presentationml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SHOW = "application/vnd.openxmlformats-officedocument.presentationml"
SPACES = f'xmlns:a="{A}" xmlns:r="{OFFICE}" xmlns:p="{M}"'
GROUP = '<p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
COLORS = {
    "dk1": "000000", "lt1": "FFFFFF", "dk2": "1F2937", "lt2": "F3F4F6", "accent1": "2563EB", "accent2": "059669",
    "accent3": "D97706", "accent4": "DC2626", "accent5": "7C3AED", "accent6": "0891B2", "hlink": "2563EB", "folHlink": "7C3AED",
}


def relations(*known):
    listed = "".join(
        f'<Relationship Id="rId{at}" Type="{OFFICE}/{kind}" Target="{target}"/>' for at, (kind, target) in enumerate(known, 1)
    )
    return f'{HEAD}<Relationships xmlns="{PACKAGE}/relationships">{listed}</Relationships>'


def theme():
    colors = "".join(f'<a:{name}><a:srgbClr val="{value}"/></a:{name}>' for name, value in COLORS.items())
    face = '<a:latin typeface="Calibri"/><a:ea typeface=""/><a:cs typeface=""/>'
    fill = '<a:solidFill><a:schemeClr val="phClr"/></a:solidFill>'
    return (
        f'{HEAD}<a:theme xmlns:a="{A}" name="Plain"><a:themeElements><a:clrScheme name="Plain">{colors}</a:clrScheme>'
        f'<a:fontScheme name="Plain"><a:majorFont>{face}</a:majorFont><a:minorFont>{face}</a:minorFont></a:fontScheme>'
        f'<a:fmtScheme name="Plain"><a:fillStyleLst>{fill * 3}</a:fillStyleLst>'
        f'<a:lnStyleLst>{f"<a:ln>{fill}</a:ln>" * 3}</a:lnStyleLst>'
        f'<a:effectStyleLst>{"<a:effectStyle><a:effectLst/></a:effectStyle>" * 3}</a:effectStyleLst>'
        f"<a:bgFillStyleLst>{fill * 3}</a:bgFillStyleLst></a:fmtScheme></a:themeElements></a:theme>"
    )


def master():
    mapped = 'bg1="lt1" tx1="dk1" bg2="lt2" tx2="dk2" ' + " ".join(
        f'{name}="{name}"' for name in COLORS if name.startswith("accent") or name.endswith("link") or name == "folHlink"
    )
    return (
        f'{HEAD}<p:sldMaster {SPACES}><p:cSld><p:bg><p:bgRef idx="1001"><a:schemeClr val="bg1"/></p:bgRef></p:bg>'
        f"<p:spTree>{GROUP}</p:spTree></p:cSld><p:clrMap {mapped}/>"
        '<p:sldLayoutIdLst><p:sldLayoutId id="2147483649" r:id="rId1"/></p:sldLayoutIdLst>'
        "<p:txStyles><p:titleStyle/><p:bodyStyle/><p:otherStyle/></p:txStyles></p:sldMaster>"
    )


def layout():
    return (
        f'{HEAD}<p:sldLayout {SPACES} type="blank"><p:cSld name="Plain"><p:spTree>{GROUP}</p:spTree></p:cSld>'
        "<p:clrMapOvr><a:masterClrMapping/></p:clrMapOvr></p:sldLayout>"
    )


def box(number, name, place, paragraphs):
    x, y, wide, high = place
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="{name}"/><p:cNvSpPr txBox="1"/><p:nvPr/></p:nvSpPr>'
        f'<p:spPr><a:xfrm><a:off x="{x}" y="{y}"/><a:ext cx="{wide}" cy="{high}"/></a:xfrm>'
        '<a:prstGeom prst="rect"><a:avLst/></a:prstGeom></p:spPr>'
        f'<p:txBody><a:bodyPr wrap="square"><a:normAutofit/></a:bodyPr><a:lstStyle/>{paragraphs}</p:txBody></p:sp>'
    )


def line(text, size, look="", run=""):
    return f'<a:p>{look}<a:r><a:rPr lang="en-US" sz="{size}"{run}/><a:t>{escape(text)}</a:t></a:r></a:p>'


def point(depth, text):
    indent = 342900 + depth * 457200
    look = f'<a:pPr marL="{indent}" indent="-342900"><a:buFont typeface="Arial"/><a:buChar char="•"/></a:pPr>'
    return line(text, 2400 - 400 * min(depth, 2), look)


def slide(title, points, notes):
    shapes = box(2, "Title", (609600, 365760, 10972800, 1097280), line(title, 3600, run=' b="1"'))
    if points:
        shapes += box(3, "Points", (609600, 1645920, 10972800, 4389120), "".join(point(*one) for one in points))
    if notes:
        shapes += box(4, "Notes", (609600, 6126480, 10972800, 457200), line(" ".join(notes), 1200))
    return (
        f"{HEAD}<p:sld {SPACES}><p:cSld><p:spTree>{GROUP}{shapes}</p:spTree></p:cSld>"
        "<p:clrMapOvr><a:masterClrMapping/></p:clrMapOvr></p:sld>"
    )


def outline(text):
    slides = []
    for row in text.splitlines():
        title, listed = re.match(r"#+\s+(.*)", row), re.match(r"(\s*)[-*]\s+(.*)", row)
        if title:
            slides.append((title[1], [], []))
        elif row.strip() and not slides:
            sys.exit("the outline begins with a line \"# Title\"")
        elif row.startswith(">"):
            slides[-1][2].append(row[1:].strip())
        elif listed:
            slides[-1][1].append((len(listed[1].expandtabs(4)) // 2, listed[2]))
        elif row.strip():
            slides[-1][1].append((0, row.strip()))
    if not slides:
        sys.exit("the outline has no slides")
    return slides


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: make.py OUTLINE.md FILE.pptx")
    with open(sys.argv[1], encoding="utf-8") as file:
        slides = list(enumerate(outline(file.read()), 1))
    parts = [("presentation", "presentation.main"), ("slideMasters/slideMaster1", "slideMaster")]
    parts += [("slideLayouts/slideLayout1", "slideLayout")] + [(f"slides/slide{at}", "slide") for at, _ in slides]
    types = "".join(f'<Override PartName="/ppt/{name}.xml" ContentType="{SHOW}.{kind}+xml"/>' for name, kind in parts)
    shown = "".join(f'<p:sldId id="{255 + at}" r:id="rId{at + 1}"/>' for at, _ in slides)
    with zipfile.ZipFile(sys.argv[2], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'{HEAD}<Types xmlns="{PACKAGE}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Default Extension="xml" ContentType="application/xml"/>{types}'
            '<Override PartName="/ppt/theme/theme1.xml" ContentType="application/vnd.openxmlformats-officedocument.theme+xml"/>'
            "</Types>",
        )
        archive.writestr("_rels/.rels", relations(("officeDocument", "ppt/presentation.xml")))
        archive.writestr(
            "ppt/presentation.xml",
            f'{HEAD}<p:presentation {SPACES}><p:sldMasterIdLst><p:sldMasterId id="2147483648" r:id="rId1"/></p:sldMasterIdLst>'
            f'<p:sldIdLst>{shown}</p:sldIdLst><p:sldSz cx="12192000" cy="6858000"/><p:notesSz cx="6858000" cy="9144000"/>'
            "</p:presentation>",
        )
        known = [("slideMaster", "slideMasters/slideMaster1.xml")]
        known += [("slide", f"slides/slide{at}.xml") for at, _ in slides] + [("theme", "theme/theme1.xml")]
        archive.writestr("ppt/_rels/presentation.xml.rels", relations(*known))
        archive.writestr("ppt/slideMasters/slideMaster1.xml", master())
        archive.writestr(
            "ppt/slideMasters/_rels/slideMaster1.xml.rels",
            relations(("slideLayout", "../slideLayouts/slideLayout1.xml"), ("theme", "../theme/theme1.xml")),
        )
        archive.writestr("ppt/slideLayouts/slideLayout1.xml", layout())
        archive.writestr(
            "ppt/slideLayouts/_rels/slideLayout1.xml.rels", relations(("slideMaster", "../slideMasters/slideMaster1.xml"))
        )
        archive.writestr("ppt/theme/theme1.xml", theme())
        for at, (title, points, notes) in slides:
            archive.writestr(f"ppt/slides/slide{at}.xml", slide(title, points, notes))
            archive.writestr(
                f"ppt/slides/_rels/slide{at}.xml.rels", relations(("slideLayout", "../slideLayouts/slideLayout1.xml"))
            )


main()
