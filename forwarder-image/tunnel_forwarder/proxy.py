"""The way out of a network that has none but a proxy.

picows speaks CONNECT, with credentials, and python-socks carries its errors; which proxy is for which
host is said by the variables that curl and most others read.
"""

import os

_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def proxy_for(host: str, port: int) -> str | None:
    """Return the proxy's URL for a host, or None when it is dialled directly.

    HTTPS_PROXY, then ALL_PROXY; NO_PROXY names hosts and domains that need none, or `*`.
    """
    if not any(os.environ.get(name) for name in _VARIABLES):
        return None
    # Imported for those who need it: it brings HTTP and mail with it, some megabytes.
    from urllib.request import (  # type: ignore[attr-defined]  # noqa: PLC0415
        getproxies_environment,
        proxy_bypass_environment,
    )

    proxies = getproxies_environment()
    if proxy_bypass_environment(f"{host}:{port}", proxies) or proxy_bypass_environment(
        host, proxies
    ):
        return None
    url = proxies.get("https") or proxies.get("all")
    return url if url is None or "://" in url else f"http://{url}"
