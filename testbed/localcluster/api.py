"""Talking to the API server, with the standard library: all that bringing a cluster up needs.

Tests and everything else that works *on* a cluster use the kubernetes client.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from testbed.errors import ClusterError

_TIMEOUT_S = 10.0
JSON_PATCH = "application/json-patch+json"


class Api:
    """Requests to one API server, as the user of a kubeconfig that `pki` wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._address = urlsplit(cluster["server"]).netloc
        self._token = config["users"][0]["user"]["token"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)

    def get(self, path: str) -> Any:
        """The object at `path`; None if there is none."""
        status, body = self._request("GET", path)
        return None if status == http.HTTPStatus.NOT_FOUND else _checked(path, status, body)

    def create(self, path: str, manifest: dict[str, Any]) -> Any:
        """POST; an object that is there already stays as it is."""
        status, body = self._request("POST", path, manifest)
        return None if status == http.HTTPStatus.CONFLICT else _checked(path, status, body)

    def patch(self, path: str, operations: list[dict[str, Any]]) -> Any:
        """Apply a JSON patch."""
        return _checked(path, *self._request("PATCH", path, operations, JSON_PATCH))

    def ready(self) -> bool:
        """True if the server says so; False too while it cannot be reached."""
        try:
            return self._request("GET", "/readyz")[0] == http.HTTPStatus.OK
        except ClusterError:
            return False

    def watch(self, path: str, seconds: int) -> Iterator[dict[str, Any]]:
        """The events of a list, the objects that are there first; ends after `seconds`, or with the connection."""
        connection = self._connection(seconds + _TIMEOUT_S)
        try:
            connection.request("GET", f"{path}?watch=true&timeoutSeconds={seconds}", headers=self._headers())
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                _checked(path, response.status, response.read())
            while line := response.readline():
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    def _request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, bytes]:
        connection = self._connection(_TIMEOUT_S)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, self._headers() | {"Content-Type": kind})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address, timeout=timeout_s, context=self._tls)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}

    def _unreachable(self, error: Exception) -> ClusterError:
        return ClusterError(f"the API server at {self._address} does not answer ({error}): is the cluster up?")


def _checked(path: str, status: int, body: bytes) -> Any:
    if status >= http.HTTPStatus.BAD_REQUEST:
        try:
            reason = json.loads(body)["message"]
        except (ValueError, KeyError, TypeError):
            reason = body.decode(errors="replace").strip()
        raise ClusterError(f"the API server refused {path} with status {status}: {reason}")
    return json.loads(body)
