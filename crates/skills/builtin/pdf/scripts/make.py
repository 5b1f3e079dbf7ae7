#!/usr/bin/env python3
"""Makes a PDF of plain text, with the fonts that every reader has."""

import sys
import textwrap

WIDE, HIGH, MARGIN = 595, 842, 64
LOOKS = {"# ": (2, 20, 46), "## ": (2, 14, 66), "": (1, 11, 84)}


def lines(text):
    for row in text.splitlines():
        mark = next(mark for mark in ("## ", "# ", "") if row.startswith(mark))
        font, size, letters = LOOKS[mark]
        row = row[len(mark):].expandtabs(4)
        for piece in textwrap.wrap(row, letters, replace_whitespace=False, drop_whitespace=True) or [""]:
            yield font, size, piece


def pages(rows):
    page, left = [], HIGH - 2 * MARGIN
    for font, size, text in rows:
        height = round(size * 1.4)
        if height > left:
            yield page
            page, left = [], HIGH - 2 * MARGIN
        left -= height
        page.append((font, size, left + MARGIN, text))
    if page:
        yield page


def shown(text):
    made = text.encode("cp1252", "replace")
    for sign in (b"\\", b"(", b")"):
        made = made.replace(sign, b"\\" + sign)
    return bytes(byte if byte >= 32 else 32 for byte in made)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: make.py FILE.txt FILE.pdf")
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    unknown = sum(1 for sign in text if sign.encode("cp1252", "ignore") == b"" and sign not in "\r\n\t")
    made = list(pages(lines(text))) or [[]]
    fonts = "".join(
        f"/F{at} << /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >> "
        for at, name in ((1, "Helvetica"), (2, "Helvetica-Bold"))
    )
    kids = " ".join(f"{3 + 2 * at} 0 R" for at in range(len(made)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(made)} >>".encode(),
    ]
    for at, page in enumerate(made):
        content = b"".join(
            f"BT /F{font} {size} Tf {MARGIN} {y} Td (".encode() + shown(row) + b") Tj ET\n" for font, size, y, row in page
        )
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDE} {HIGH}] /Contents {4 + 2 * at} 0 R "
            f"/Resources << /Font << {fonts}>> >> >>".encode()
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"endstream")
    file, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(file))
        file += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = len(file)
    file += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    file += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    file += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode()
    with open(sys.argv[2], "wb") as out:
        out.write(file)
    if unknown:
        print(f"{unknown} characters are shown as ?: they are not western European", file=sys.stderr)


main()
