"""What clients download: a file that an agent wrote, and zips of skills."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

from stories import House, Story, bash, call, replies, say, until

NAME = "every-byte.bin"
CONTENT = bytes(range(256))


@dataclass
class Output:
    """The session whose output it is, and its id; it has each byte once, in order."""

    session: str
    file: str


def written(house: House) -> Output:
    """Has an agent write it in a sandbox; waits until it is among the files."""
    story = Story(house)
    command = rf"""for i in $(seq 0 255); do printf "\\$(printf %03o $i)"; done > /mnt/session/outputs/{NAME}"""
    story.turn(replies(call(bash(command)), say("Done.")))
    story.close()
    (file,) = until("the output", lambda: list(story.client.beta.files.list(scope_id=story.id)))
    assert (file.filename, file.size_bytes, file.downloadable) == (NAME, len(CONTENT), True), file
    return Output(story.id, file.id)


def unpacked(packed: bytes) -> dict[str, bytes]:
    """The files in a zip, by their paths."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {path: archive.read(path) for path in archive.namelist()}
