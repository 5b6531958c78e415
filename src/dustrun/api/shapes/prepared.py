"""Answers that stay the same while the server runs: encoded and compressed once, with an ETag.

Each answer has its own request id behind the data. What is before it is compressed up to a byte's boundary; the end
of a request is appended as it is, and the checksum goes on from that of the beginning.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response

from dustrun.records import dataclass

_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
_STORED = b"\x01"  # the last block, as it is
_PLACE = "req_place"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The beginning of an answer, plain and compressed, and what tells whether a caller has it already."""

    begin: bytes
    end: tuple[bytes, bytes]
    """What is around the request id."""
    zipped: bytes
    crc: int
    etag: str

    def answer(self, request_id: str, asked: Headers) -> Response:
        """The answer to one request; 304 without a body if the caller has it."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding, Dustrun-Exact-Numbers"}
        if self.etag in [one.strip() for one in asked.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        end = request_id.encode().join(self.end)
        body = self.begin + end
        if "gzip" in asked.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = self._zipped_with(end)
        return Response(body, media_type="application/json", headers=headers)

    def _zipped_with(self, end: bytes) -> bytes:
        block = _STORED + struct.pack("<HH", len(end), len(end) ^ 0xFFFF) + end
        size = (len(self.begin) + len(end)) & 0xFFFFFFFF
        return _HEAD + self.zipped + block + struct.pack("<II", zlib.crc32(end, self.crc), size)


def prepare(body_of: Callable[[str], bytes]) -> Prepared:
    """Prepares an answer; `body_of` encodes it with a request id. Takes milliseconds: not for the event loop."""
    begin, _, end = body_of(_PLACE).rpartition(_PLACE.encode())
    begin, mark, middle = begin.rpartition(b',"requestId":')
    compressor = zlib.compressobj(9, wbits=-15)
    zipped = compressor.compress(begin) + compressor.flush(zlib.Z_FULL_FLUSH)
    etag = f'W/"{hashlib.sha256(begin).hexdigest()[:32]}"'
    return Prepared(begin, (mark + middle, end), zipped, zlib.crc32(begin), etag)
