"""A messaging service, by its Apprise URL.

One URL says which service, where, and with which credentials: `slack://…`, `discord://…`, `tgram://…`, `mailtos://…`
and a hundred more, listed at https://github.com/caronc/apprise/wiki. The whole URL is secret. The action `notify` uses
it.
"""

from __future__ import annotations

from dustrun.errors import Code, Invalid, Problem
from dustrun.sdk.connector import secret_connector
from dustrun.sdk.fields import Fields, secret

# Schemes of Apprise that run a program, write a file or speak to this machine's desktop instead of a service.
_LOCAL = frozenset({"dbus", "gnome", "kde", "glib", "macosx", "windows", "syslog", "rsyslog", "exec"})


class Data(Fields):
    """The service."""

    url: str = secret(
        description="The service's Apprise URL.",
        min_length=8,
        max_length=8192,
        pattern=r"^[A-Za-z][A-Za-z0-9+.-]{0,63}://\S+$",
    )


@secret_connector(data=Data, example={"url": "slack://TokenA/TokenB/TokenC/#treasury"}, tags=["notify"])
def apprise(data: Data) -> None:
    """Refuses a URL that leads to no outside service."""
    scheme = data.url.partition("://")[0].lower()
    if scheme in _LOCAL:
        message = f'"{scheme}" speaks to this machine and to no service; choose a service from the list of Apprise'
        raise Invalid("The URL is not usable.", code=Code.BODY_INVALID, details=[Problem("data.url", message)])
