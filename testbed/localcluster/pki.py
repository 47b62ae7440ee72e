"""Certificates, and the kubeconfigs that the daemons log in with. All new at each `up`, thrown away at `down`."""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from testbed.errors import ClusterError
from testbed.localcluster.layout import API_SERVER, HOST_IP, KUBECONFIG, LOGINS, PKI, login
from workloads.files import write_json, write_text_atomically

CA = PKI / "ca.crt"
FRONT_PROXY_CA = PKI / "front-proxy-ca.crt"
SERVICE_ACCOUNT_KEY = PKI / "service-account.key"
SERVICE_ACCOUNT_PUBLIC_KEY = PKI / "service-account.pub"
TOKENS = PKI / "tokens.csv"

ADMINISTRATORS = "system:masters"
_DAYS = "30"
_FIRST_SERVICE_IP = "10.96.0.1"  # the Service `kubernetes`: clients that are told to use it check the name
_API_SERVER_NAMES = (
    "DNS:localhost",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    f"IP:{HOST_IP}",
    f"IP:{_FIRST_SERVICE_IP}",
)
# An own configuration: the system's adds extensions of its own to each certificate.
_OPENSSL = "[req]\ndistinguished_name = name\n[name]\n"


def write_certificates() -> None:
    """The two authorities, the API server's certificates and the key that signs service accounts' tokens."""
    PKI.mkdir(mode=0o700)
    (PKI / "openssl.cnf").write_text(_OPENSSL)
    for authority in (CA, FRONT_PROXY_CA):
        _certificate(authority, f"/CN=kis {authority.stem}", extensions=_authority_extensions())
    issue("apiserver", CA, "/CN=kube-apiserver", "serverAuth", names=_API_SERVER_NAMES)
    issue("kubelet-client", CA, f"/O={ADMINISTRATORS}/CN=kube-apiserver-kubelet-client", "clientAuth")
    issue("front-proxy-client", FRONT_PROXY_CA, "/CN=front-proxy-client", "clientAuth")
    _openssl("genpkey", *_curve("-algorithm", "EC"), "-out", str(SERVICE_ACCOUNT_KEY))
    _openssl("pkey", "-pubout", "-in", str(SERVICE_ACCOUNT_KEY), "-out", str(SERVICE_ACCOUNT_PUBLIC_KEY))


def issue(
    name: str,
    authority: Path,
    subject: str,
    usage: Literal["serverAuth", "clientAuth"],
    names: Sequence[str] = (),
) -> None:
    """Write PKI/name.crt and PKI/name.key, signed by `authority`. names: DNS:... and IP:..., of a server."""
    extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
    extensions += [f"extendedKeyUsage={usage}", "authorityKeyIdentifier=keyid:always"]
    if names:
        extensions.append(f"subjectAltName={','.join(names)}")
    signed_by = ("-CA", str(authority), "-CAkey", str(authority.with_suffix(".key")))
    _certificate(PKI / f"{name}.crt", subject, extensions, signed_by)


def serving_certificate(host: str, folder: Path) -> None:
    """Write tls.crt and tls.key for a server of this name, and ca.crt, the authority that signed it, into a folder."""
    issue(host, CA, f"/CN={host}", "serverAuth", names=(f"DNS:{host}",))
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in ((PKI / f"{host}.crt", "tls.crt"), (PKI / f"{host}.key", "tls.key"), (CA, "ca.crt")):
        shutil.copy(source, folder / name)  # with its mode


def write_logins(users: dict[str, tuple[str, str]]) -> None:
    """A token and a kubeconfig for each: daemon's name -> (Kubernetes user, group or nothing); one for us besides."""
    LOGINS.mkdir(mode=0o700)
    lines = []
    logins = {KUBECONFIG: ("kis-admin", ADMINISTRATORS)} | {login(name): users[name] for name in users}
    for file, (user, group) in logins.items():
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{user},"{group}"\n' if group else f"{token},{user},{user}\n")
        write_json(file, _kubeconfig(token), mode=0o600)
    write_text_atomically(TOKENS, "".join(lines), mode=0o600)


def _kubeconfig(token: str) -> dict[str, object]:
    authority = base64.b64encode(CA.read_bytes()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kis", "cluster": {"server": API_SERVER, "certificate-authority-data": authority}}],
        "users": [{"name": "kis", "user": {"token": token}}],
        "contexts": [{"name": "kis", "context": {"cluster": "kis", "user": "kis"}}],
        "current-context": "kis",
    }


def _authority_extensions() -> list[str]:
    return ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]


def _certificate(file: Path, subject: str, extensions: Sequence[str], signed_by: Sequence[str] = ()) -> None:
    _openssl(
        "req",
        "-x509",
        *("-config", str(PKI / "openssl.cnf")),
        *_curve("-newkey", "ec"),
        "-nodes",
        *("-days", _DAYS),
        *("-subj", subject),
        *(word for extension in ("subjectKeyIdentifier=hash", *extensions) for word in ("-addext", extension)),
        *signed_by,
        *("-keyout", str(file.with_suffix(".key"))),
        *("-out", str(file)),
    )


def _curve(*algorithm: str) -> tuple[str, ...]:
    return (*algorithm, "-pkeyopt", "ec_paramgen_curve:P-256")


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ClusterError(f"openssl {arguments[0]} failed: {reason} (it must be 3.0 or later)")
