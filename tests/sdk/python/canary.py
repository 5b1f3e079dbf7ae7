"""Secrets that are planted to be found, and a scanner that finds them in whatever form they leaked (security I7, CRED-2)."""

from __future__ import annotations

import base64
import gzip
import io
import os
import pathlib
import re
import secrets
import sqlite3
import urllib.parse
import zlib
from collections.abc import Callable, Iterator

import zstandard

# What is packed in what is packed in …; nothing here is packed more often.
DEPTH = 4
# The content of a blob's block, and the digest that follows it.
BLOCK, DIGEST = 256 << 10, 32
UNPACKED = 256 << 20


class Canaries:
    """Planted secrets. Each has letters that encodings change, so that every form of it differs from the plain one."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}
        self._forms: list[tuple[str, str, bytes]] = []

    def plant(self, place: str) -> str:
        """A secret for a place, never given out before."""
        secret = f"canary/{secrets.token_hex(12)}+{len(self.planted):02}=~"
        self.planted[place] = secret
        self._forms += [(place, form, found) for form, found in forms(secret.encode())]
        return secret

    def found(self, surface: str, content: bytes | str) -> list[str]:
        """What of the planted is in some bytes, also where they hold packed bytes: the surface, the place, the form."""
        content = content.encode() if isinstance(content, str) else content
        seen = []
        for layer in layers(content):
            folded = layer.lower()
            for place, form, wanted in self._forms:
                if wanted in (folded if form in ("hex", "percent") else layer):
                    seen.append(f"{surface}: {place} ({form})")
        return seen

    def found_in_folder(self, folder: pathlib.Path) -> list[str]:
        """The same for all files below a folder: as they are, as blobs without their digests, as databases."""
        seen = []
        # What a server removes meanwhile is not there to be found.
        for path in sorted(pathlib.Path(place, name) for place, _, names in os.walk(folder) for name in names):
            if path.is_symlink() or not path.is_file():
                continue
            try:
                content = written(path)
            except FileNotFoundError:
                continue
            seen += self.found(str(path), content)
            if len(content) > DIGEST:
                seen += self.found(f"{path} as a blob", without_digests(content))
            if content.startswith(b"SQLite format 3\0"):
                with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                    database.text_factory = lambda text: text.decode(errors="replace")
                    seen += self.found(f"{path} as tables", "\n".join(database.iterdump()))
        return seen


def forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """The forms in which a secret's bytes may lie among others."""
    yield "plain", secret
    yield "reversed", secret[::-1]
    for shift in range(3):
        # The first and last letters depend on what is around it.
        for form, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            encoded = encode(b"\0" * shift + secret).rstrip(b"=")
            yield form, encoded[(0, 2, 3)[shift] : len(encoded) // 4 * 4 - 4]
    yield "hex", secret.hex().encode()
    yield "percent", "".join(f"%{byte:02x}" for byte in secret).encode()
    yield "percent", urllib.parse.quote(secret, safe="").lower().encode()


def written(path: pathlib.Path) -> bytes:
    """What was ever written to a file: disks are mostly holes."""
    parts, at = [], 0
    with path.open("rb") as file:
        while True:
            try:
                at = file.seek(at, os.SEEK_DATA)
                end = file.seek(at, os.SEEK_HOLE)
            except OSError:
                # Nothing is behind it.
                return b"".join(parts)
            file.seek(at)
            parts.append(file.read(end - at))
            at = end


def without_digests(content: bytes) -> bytes:
    """A blob's content: its blocks without the digest behind each."""
    step = BLOCK + DIGEST
    parts = [content[at : at + step] for at in range(0, len(content), step)]
    return b"".join(part[:-DIGEST] for part in parts)


def layers(content: bytes, depth: int = DEPTH) -> Iterator[bytes]:
    """Some bytes, and what is packed anywhere in them."""
    yield content
    if depth == 0:
        return
    whole = memoryview(content)
    for begin, unpack in BEGINNINGS.items():
        for match in re.finditer(begin, content):
            yield from unpacked(unpack, whole[match.start() :], depth)


def unpacked(unpack: Callable[[memoryview], bytes], packed: memoryview, depth: int) -> Iterator[bytes]:
    try:
        content = unpack(packed)
    except (zlib.error, OSError, EOFError, zstandard.ZstdError):
        # What looked like a beginning was none.
        return
    if content:
        yield from layers(content, depth - 1)


def gunzip(packed: memoryview) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(packed, UNPACKED)


def inflate(packed: memoryview) -> bytes:
    return zlib.decompressobj().decompress(packed, UNPACKED)


def unzstd(packed: memoryview) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
        return reader.read(UNPACKED)


# How packed bytes begin, and what unpacks them.
BEGINNINGS: dict[bytes, Callable[[memoryview], bytes]] = {
    rb"\x1f\x8b\x08": gunzip,
    rb"\x78[\x01\x5e\x9c\xda]": inflate,
    rb"\x28\xb5\x2f\xfd": unzstd,
}


def every_form(secret: str) -> dict[str, bytes]:
    """A text that hides a secret in each way that the scanner must see through."""
    plain = secret.encode()
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        file.write(b"some words, then " + plain)
    return {
        "plain": b"x" + plain + b"y",
        "base64, alone": base64.b64encode(plain),
        "base64, after one letter": base64.b64encode(b"a" + plain + b"z"),
        "base64, after two": base64.urlsafe_b64encode(b"ab" + plain + b"yz"),
        "basic": base64.b64encode(b"user:" + plain),
        "hex": plain.hex().upper().encode(),
        "percent": urllib.parse.quote(secret, safe="").encode(),
        "percent, all of it": "".join(f"%{byte:02X}" for byte in plain).encode(),
        "gzip": b"before" + packed.getvalue(),
        "deflate": b"before" + zlib.compress(plain * 3),
        "zstd": b"before" + zstandard.ZstdCompressor().compress(b"words " + plain),
        "zstd in gzip": gzip.compress(zstandard.ZstdCompressor().compress(plain)),
    }
