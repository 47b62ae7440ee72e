"""Why a server does not let a client in, and what to do: certificates, headers, paths, proxies. One line each."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl

from loadgen.access import EXAMPLE, Access
from loadgen.endpoints import Endpoint

_OTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NOT_NOW = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
_PROBE_S = 2.0
OF_ANOTHER_NAME = "its certificate is of another name ({}): give the name that it was made for"
NOT_TRUSTED = "its certificate is not trusted ({}): give the authority's with --ca FILE"
ASKS_FOR_ONE = "it seems to ask for a certificate ({}): give one that it trusts with --cert FILE --key FILE"


def why_no_tls(error: BaseException) -> str | None:
    """Why a handshake failed; None: the error is of something else."""
    if isinstance(error, TimeoutError) and "handshake" in str(error):
        return "it does not answer the TLS handshake in time: give its port with TLS, or http://"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _why_not_trusted(error.verify_code, error.verify_message.rstrip("."))
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
            return ASKS_FOR_ONE.format(reason)
        if reason in _NO_TLS:
            return f"it speaks no TLS there ({reason}): give its port with TLS, or http://"
    return None


def _why_not_trusted(code: int, said: str) -> str:
    if code in _OTHER_NAME:
        return OF_ANOTHER_NAME.format(said)
    if code in _NOT_NOW:
        return f"its certificate does not hold now ({said}): have it renewed, or set this machine's clock"
    return NOT_TRUSTED.format(said)


def why_not_plain(endpoint: Endpoint) -> str | None:
    """Of a failed exchange without TLS: that the port has it; None: it has not."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError), socket.create_connection((endpoint.host, endpoint.port), _PROBE_S) as sock:  # noqa: SIM117
        with context.wrap_socket(sock, server_hostname=endpoint.host):
            return "it speaks TLS there: give https://"
    return None


def why_status(status: int, access: Access) -> str | None:
    """Of an answer with that HTTP status; None: it is not what stands before a Triton that says it."""
    if status in (401, 403):
        names = ", ".join(access.header_values())
        mend = f"check the value of {names}" if names else f"give what it asks for, e.g. {EXAMPLE}"
        return f"it refuses these requests ({status}): {mend}"
    if 300 <= status < 400:
        return f"it sends clients to another address ({status}): give that one"
    if status in (400, 404, 405):
        return f"it has nothing there ({status}): check the path, which is what comes before /v2"
    if status in (502, 503, 504):
        return f"a proxy answers that has no Triton behind it ({status}): start Triton, or check the path"
    return None


def why_no_grpc(said: str, access: Access) -> str | None:
    """Of gRPC's own words, which have all of the above in them."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        reason = said.partition("CERTIFICATE_VERIFY_FAILED")[2].strip(": ").split(";")[0].split(":")[0]
        return NOT_TRUSTED.format(reason or "CERTIFICATE_VERIFY_FAILED")
    if re.search("[Hh]ostname [Vv]erification|is not in peer certificate", said):
        return OF_ANOTHER_NAME.format("gRPC's hostname verification failed")
    if re.search("ALERT.*(CERTIFICATE|UNKNOWN_CA)", said):
        return ASKS_FOR_ONE.format("by a TLS alert")
    if any(word in said for word in _NO_TLS):
        return "it speaks no TLS there: give its port with TLS, or the address without grpcs://"
    if "ALPN" in said:
        return "it speaks no HTTP/2 there, which gRPC needs: give the address of gRPC"
    status = re.search(r"status: (\d{3})", said)
    return None if status is None else why_status(int(status[1]), access)
