"""Translates any exception of a route into an error answer; unexpected ones are logged and not shown."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.exceptions import HTTPException

from dustrun import log
from dustrun.errors import Bug, Code, DustrunError, Invalid
from dustrun.services.problems import problems_of

_logger = log.get(__name__)
_BY_STATUS = {
    404: (Code.ROUTE_UNKNOWN, "There is no such route."),
    405: (Code.METHOD_NOT_ALLOWED, "The route does not allow this method."),
    413: (Code.BODY_TOO_LARGE, "The request body is larger than the limit."),
    415: (Code.CONTENT_TYPE_UNSUPPORTED, "The body must be application/json."),
}


def as_failure(error: Exception, request_id: str) -> DustrunError:
    """Translates an exception into the failure that the caller sees; unexpected ones are logged with the request id."""
    if isinstance(error, DustrunError) and error.code != Code.INTERNAL:
        if error.code.status == 500:
            _logger.error("request failed", request_id=request_id, error=error.message)
        return error
    if isinstance(error, ValidationError):
        return Invalid("The request body is not valid.", details=problems_of(error.errors()))
    if isinstance(error, HTTPException) and error.status_code in _BY_STATUS:
        code, message = _BY_STATUS[error.status_code]
        return DustrunError(message, code=code)
    if isinstance(error, HTTPException) and 400 <= error.status_code < 500:
        return Invalid(str(error.detail))
    _logger.error("request failed", request_id=request_id, exc_info=error)
    return Bug("Internal server error. Give the request id to the server's operator.")
