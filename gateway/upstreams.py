"""How an upstream is reached, whoever calls it: TLS, and the headers that are its own."""

import ssl

from gateway.settings.model import Tls, Upstream


def own_headers(upstream: Upstream) -> list[tuple[str, str]]:
    """Its key, its organization and project, and what the settings add. They hold secrets."""
    headers: list[tuple[str, str]] = []
    if upstream.api_key is not None and upstream.auth == "bearer":
        headers.append(("Authorization", f"Bearer {upstream.api_key.reveal()}"))
    elif upstream.api_key is not None and upstream.auth == "api-key":
        headers.append(("api-key", upstream.api_key.reveal()))
    if upstream.organization is not None:
        headers.append(("OpenAI-Organization", upstream.organization))
    if upstream.project is not None:
        headers.append(("OpenAI-Project", upstream.project))
    return headers + [(name, value.reveal()) for name, value in upstream.headers.items()]


def tls_context(tls: Tls) -> ssl.SSLContext:
    """The TLS side of connections. Trusts `ca_file` alone if there is one, else the system. Reads files. Raises OSError
    or ssl.SSLError if one cannot be used."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
