"""A messaging service, by its Apprise URL.

The URL contains the service, the destination and the credentials: `slack://…`, `discord://…`, `tgram://…`,
`mailtos://…` and about a hundred more, see https://github.com/caronc/apprise/wiki. The whole URL is secret. It is used
by the action `notify`.
"""

from __future__ import annotations

from dustrun.errors import Code, Invalid, Problem
from dustrun.sdk.connector import secret_connector
from dustrun.sdk.fields import Fields, secret

# Apprise schemes that run a program, write a file or notify the local desktop.
_LOCAL = frozenset({"dbus", "gnome", "kde", "glib", "macosx", "windows", "syslog", "rsyslog", "exec"})


class Data(Fields):
    """The Apprise URL."""

    url: str = secret(
        description="The service's Apprise URL: which service, where to, and the credentials. Those of all services "
        "are at https://github.com/caronc/apprise/wiki.",
        min_length=8,
        max_length=8192,
        pattern=r"^[A-Za-z][A-Za-z0-9+.-]{0,63}://\S+$",
    )


@secret_connector(data=Data, example={"url": "slack://TokenA/TokenB/TokenC/#treasury"}, tags=["notify"])
def apprise(data: Data) -> None:
    """Raises `Invalid` for a URL of a local service."""
    scheme = data.url.partition("://")[0].lower()
    if scheme in _LOCAL:
        message = f'"{scheme}" is local to this machine; choose a service from the list of Apprise'
        raise Invalid("The URL cannot be used.", code=Code.BODY_INVALID, details=[Problem("data.url", message)])
