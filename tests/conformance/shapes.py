"""What an answer looks like, without what differs from run to run: two servers that mean the same answer alike."""

from __future__ import annotations

import hashlib
import json
import re

from outputs import unpacked

ID = re.compile(r"\b([a-z]+)_01[1-9A-HJ-NP-Za-km-z]{22}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]00:00)")
# Members that say which of several shapes a value has, or how it is with it: their words are part of the shape.
TELLING = {"type", "status", "role", "operation", "error_code", "access_type", "scope", "evaluated_permission"}


def shape(value: object, sent: set[str], name: str = "") -> object:
    """The shape of a JSON value; what a client has `sent` is shown as it is, so that an echo is part of it."""
    if isinstance(value, dict):
        return {key: shape(member, sent, key) for key, member in value.items()}
    if isinstance(value, list):
        # How many there are is not told: of each shape one.
        items = {json.dumps(shape(item, sent), sort_keys=True) for item in value}
        return [json.loads(item) for item in sorted(items)]
    if isinstance(value, str):
        if named := ID.fullmatch(value):
            return f"<id: {named[1]}>"
        if TIME.fullmatch(value):
            return "<time>"
        return f"= {value}" if name in TELLING or value in sent else "<text>"
    return value if isinstance(value, bool) or value is None else "<number>"


def body_shape(kind: str, body: bytes, sent: set[str]) -> object:
    """The shape of a whole answer."""
    if kind.startswith("application/json"):
        return shape(json.loads(body), sent)
    if body.startswith(b"PK"):
        return {"zip": {path: digest(content) for path, content in unpacked(body).items()}}
    return {"sha256": digest(body)}


def digest(content: bytes) -> str:
    """Its SHA-256."""
    return hashlib.sha256(content).hexdigest()


def strings(value: object) -> set[str]:
    """Every text in a JSON value."""
    if isinstance(value, dict):
        return {found for member in value.values() for found in strings(member)}
    if isinstance(value, list):
        return {found for item in value for found in strings(item)}
    return {value} if isinstance(value, str) else set()


def difference(old: object, new: object, path: str = "") -> str:
    """Where two shapes differ first, in words; nothing when they do not."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            below = f"{path}.{name}".lstrip(".")
            if name not in new:
                return f"{below} is gone"
            if name not in old:
                return f"{below} is new"
            if told := difference(old[name], new[name], below):
                return told
        return ""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return next((told for pair in zip(old, new, strict=True) if (told := difference(*pair, f"{path}[]"))), "")
    if old == new:
        return ""
    return f"{path or 'the answer'} was {json.dumps(old, ensure_ascii=False)}, is {json.dumps(new, ensure_ascii=False)}"
