"""Reads OpenAPI documents, each in a process of its own: `documents.py` starts this one, which forks another for each
document, since its imports take three times as long as an average document. Others wrote the documents, and a large one
takes seconds and hundreds of megabytes. This process reads none of their bytes, so no document meets another's.

Frames come in (options, document) and go out (what is known of the document, then what is known of each operation and
its content); each is a four-byte big-endian length followed by that many bytes. It ends with the first document that
could not be read to its end, and when nothing comes in any more.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import zlib
from typing import Any, Final, Never

import orjson

from dustrun.core.openapi.operation import ImportedOperation, pin_of, text_of_operation
from dustrun.core.openapi.reader import DocumentContent, read
from dustrun.core.openapi.servers import ServerChoice
from dustrun.errors import Invalid

_CPU_S: Final = 120
_MEMORY_BYTES: Final = 3 << 30
_LEVEL: Final = 3


def main() -> None:
    """Reads one document after the other."""
    if not hasattr(os, "fork"):  # Windows
        while _read_next():
            pass
        return
    gc.freeze()  # what was imported is not copied into each process
    while select.select([sys.stdin], [], []):
        child = os.fork()
        if child == 0:
            _read_alone()
        if os.waitpid(child, 0)[1]:
            return


def _read_alone() -> Never:
    status = 1
    try:
        _limit()
        status = 0 if _read_next() else 1
    finally:
        os._exit(status)


def _read_next() -> bool:
    """Reads the next document and answers; False if there is none."""
    asked = _take()
    if not asked:
        return False
    options, content = orjson.loads(asked), _take()
    effects = options.pop("effects")
    summaries = options.pop("summaries")
    name = options.pop("name")
    try:
        reading = read(content, name=name, choice=ServerChoice(**options))
    except Invalid as error:
        problem = error.public_details()[0]
        _put(orjson.dumps({"error": problem["message"], "field": problem["field"]}))
    else:
        _put(orjson.dumps(_known(reading)))
        for operation in reading.operations:
            if operation.type in summaries:
                operation = operation.with_summary(summaries[operation.type])
            _put_operation(operation, effects.get(operation.type))
    sys.stdout.buffer.flush()
    return True


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _known(reading: DocumentContent) -> dict[str, Any]:
    return {
        "name": reading.name,
        "title": reading.title,
        "version": reading.version,
        "format": reading.format,
        "operations": len(reading.operations),
        "leftOut": [
            {"operation": one.operation, "reason": one.reason, "message": one.message[:500]} for one in reading.left_out
        ],
        "counts": reading.counts,
        "renamed": reading.renamed[:200],
    }


def _put_operation(operation: ImportedOperation, effect: Any) -> None:
    if effect in ("read", "write"):
        operation = operation.with_effect(effect)
    text = text_of_operation(operation)
    words = f"{operation.type} {operation.summary} {' '.join(operation.tags)} {operation.method} {operation.path}"
    known = {
        "type": operation.type,
        "pin": pin_of(text),
        "method": operation.method,
        "server": operation.server,
        "effect": operation.effect,
        "summary": operation.summary,
        "words": words,
    }
    _put(orjson.dumps(known))
    _put(zlib.compress(text, _LEVEL))


def _take() -> bytes:
    length = int.from_bytes(sys.stdin.buffer.read(4), "big")
    return sys.stdin.buffer.read(length)


def _put(frame: bytes) -> None:
    sys.stdout.buffer.write(len(frame).to_bytes(4, "big") + frame)


if __name__ == "__main__":
    main()
