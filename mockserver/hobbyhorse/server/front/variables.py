"""The environment variables that lead an unmodified client to the server: its proxy, and the authority to trust."""

from __future__ import annotations

from collections.abc import Iterable

# Reached directly: links to files, and the receivers of callbacks.
DIRECT = ("127.0.0.1", "localhost", "::1")
# By OpenSSL and Go, requests, Node, curl, the AWS SDKs, and Deno.
AUTHORITY_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
)


def proxy_variables(proxy: str, authority: str | None, direct: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables for the URL of the forward proxy and the file of its authority.

    `direct` are more hosts that clients have to reach without the proxy.
    """
    without = ",".join(dict.fromkeys([*DIRECT, *direct]))
    # Some clients prefer the name in small letters, and a shell may have it already.
    variables = {"HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": without, "no_proxy": without}
    # Node from version 24 reads the variables of proxies only if it is told to.
    variables["NODE_USE_ENV_PROXY"] = "1"
    return variables if authority is None else variables | dict.fromkeys(AUTHORITY_VARIABLES, authority)
