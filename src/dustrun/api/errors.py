"""Translates any exception of a route into an error answer; unexpected ones are logged and not shown."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from dustrun import log
from dustrun.errors import Bug, Code, DustrunError, Invalid
from dustrun.services.problems import problems_of

_logger = log.get(__name__)
_OUTSIDE_BODY = frozenset({"path", "query", "header", "cookie"})
_BY_STATUS = {
    404: (Code.ROUTE_UNKNOWN, "There is no such route."),
    405: (Code.METHOD_NOT_ALLOWED, "The route does not allow this method."),
    413: (Code.BODY_TOO_LARGE, "The request body is larger than the limit."),
    415: (Code.CONTENT_TYPE_UNSUPPORTED, "The body must be application/json."),
}


def _of_request(error: RequestValidationError, body: Any) -> DustrunError:
    errors = error.errors()
    outside = [found for found in errors if found["loc"] and found["loc"][0] in _OUTSIDE_BODY]
    if outside and len(outside) == len(errors):
        return Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=problems_of(errors, skip=1))
    return Invalid("The request body is not valid.", details=problems_of(errors, skip=1, model=body))


def as_failure(error: Exception, request_id: str, body: Any = None) -> DustrunError:
    """Translates an exception into the failure that the caller sees; unexpected ones are logged with the request id.
    `body` is the model of the route's body."""
    if isinstance(error, DustrunError) and error.code != Code.INTERNAL:
        if error.code.status == 500:
            _logger.error("request failed", request_id=request_id, error=error.message)
        return error
    if isinstance(error, RequestValidationError):
        return _of_request(error, body)
    if isinstance(error, ValidationError):
        return Invalid("The request body is not valid.", details=problems_of(error.errors()))
    if isinstance(error, HTTPException) and error.status_code in _BY_STATUS:
        code, message = _BY_STATUS[error.status_code]
        return DustrunError(message, code=code)
    if isinstance(error, HTTPException) and 400 <= error.status_code < 500:
        return Invalid(str(error.detail))
    _logger.error("request failed", request_id=request_id, exc_info=error)
    return Bug("Internal server error. Give the request id to the server's operator.")
