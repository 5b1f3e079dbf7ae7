#!/usr/bin/env python3
"""Prints the text of a PDF, page by page."""

import shutil
import subprocess
import sys


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: text.py FILE.pdf")
    path = sys.argv[1]
    if shutil.which("pdftotext"):
        sys.exit(subprocess.run(["pdftotext", "-layout", "--", path, "-"], check=False).returncode)
    try:
        import pypdf
    except ImportError:
        sys.exit(
            "neither pdftotext nor pypdf is here: open the file with the read tool, or ask for an environment "
            "with the apt package poppler-utils or the pip package pypdf"
        )
    for number, page in enumerate(pypdf.PdfReader(path).pages, 1):
        print(f"--- page {number} ---")
        print(page.extract_text())


main()
