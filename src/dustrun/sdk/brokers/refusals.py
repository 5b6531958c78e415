"""Messages for servers that cannot be connected to: why, and which field of the connector mends it."""

from __future__ import annotations

import ssl
from typing import Final

from dustrun.sdk.context import NoConnection

_OUT_OF_TIME: Final = (9, 10)
"""How OpenSSL says that a certificate is not valid yet, or no more."""


def unreachable(what: str, error: Exception, *, where: str, encrypts: bool) -> NoConnection:
    """Why `what` is not connected to. `where`: the field that says where it is; `encrypts`: what `tls` says."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.removesuffix(".")
        mend = f"`{where}` must have the name in it, and this machine must trust who issued it"
        if error.verify_code in _OUT_OF_TIME:
            mend = "whoever runs the server must renew it, unless this machine's clock is wrong"
        return NoConnection(f"{what} has a certificate that is not accepted ({why}): {mend}.")
    if isinstance(error, ssl.SSLError):
        return NoConnection(f"{what} does not speak TLS as it should ({error.reason}): check `tls` and the port.")
    if isinstance(error, TimeoutError):
        return NoConnection(f"{what} does not answer in time: check `{where}` and `tls`.")
    why = f" ({str(error)[:200]})" if isinstance(error, OSError) else f" ({type(error).__name__})"
    return NoConnection(f"{what} cannot be connected to{why}: check `{where}`{' and `tls`' if encrypts else ''}.")
