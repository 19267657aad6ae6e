"""Where things are in the bucket: the keys of segments, and those of what is published."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from dynalayer import StorageError, safe_name

__all__ = ["SUFFIX", "Keys"]

SUFFIX = ".segment"  # never that of what is published: the two cannot meet, whatever a partition is called
_PUBLISHED = ".json"
_MOST_BYTES = 1024  # of a key; S3's limit
_CUT = "%~"

# What a key cannot hold or another program would resolve: control characters, a slash that begins a name or follows
# another, parts "." and "..". And a "%" that the reader of a key could take for an escape of these.
_ESCAPED = re.compile(
    r"[\x00-\x1f\x7f]"
    r"|(?<![^/])/"
    r"|(?<![^/])\.\.?(?=/)"
    r"|%(?=(?:25)*(?:2e|2f|7f|[01][0-9a-f]|~))"
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one layer.

    Attributes:
        prefix: What they all begin with, as `checked_s3_prefix` gives it.
        table: The layer's table.
    """

    prefix: str
    table: str

    def folder(self, partition: str) -> str:
        """What the keys of a partition's segments begin with; no other partition's do."""
        return self._below(f"{safe_name(self.table)}/{safe_name(partition)}/")

    def segment(self, partition: str, ref: str) -> str:
        """The key of a segment.

        Raises:
            StorageError: The ref is none of this adapter.
        """
        if "/" in ref or not ref.endswith(SUFFIX):
            raise StorageError(f"{ref!r:.300} is no ref of this adapter")
        return self.folder(partition) + ref

    def published(self, partition: str) -> str:
        """The key of a partition's plain array: its name and `.json`, as it stands wherever a key can hold it.

        Control characters, a `/` that begins the name or follows another, and parts `.` and `..` before a `/` become
        `%` and two lower-case hexadecimal digits each; so does a `%` that would read as such an escape. What is then
        too long for a key keeps its beginning, and a digest of the whole after `%~`. No two names share a key.
        """
        name = _ESCAPED.sub(lambda found: "".join(f"%{ord(each):02x}" for each in found[0]), partition)
        room = _MOST_BYTES - len(self._below(_PUBLISHED).encode())
        if len(name.encode()) > room:
            digest = _CUT + hashlib.blake2b(partition.encode(), digest_size=20).hexdigest()
            name = name.encode()[: room - len(digest)].decode(errors="ignore") + digest
        return self._below(name + _PUBLISHED)

    def _below(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name
