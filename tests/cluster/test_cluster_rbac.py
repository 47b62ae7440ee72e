"""What the controller's and the activator's accounts may do, asked of the API server with their own tokens."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from localcluster_pods import MANIFESTS

from testbed.autoscaling.live.deployment import DeploymentView
from testbed.config_file import load_config
from testbed.controller.config import ControllerConfig
from testbed.controller.deployment import KubernetesDeployment
from testbed.controller.election import Election

pytestmark = pytest.mark.cluster

CONFIG = load_config(MANIFESTS / "overlays" / "local-controller" / "controller.yaml", ControllerConfig)
APPS, CORE = "/apis/apps/v1/namespaces/{ns}", "/api/v1/namespaces/{ns}"
LEASES, RBAC = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases", "/apis/rbac.authorization.k8s.io/v1"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"
REPLICAS = {"spec": {"replicas": 0}}
FORBIDDEN = [
    ("GET", APPS + "/deployments/triton-emulated", None),
    ("GET", APPS + "/deployments", None),
    ("POST", APPS + "/deployments", {}),
    ("PATCH", APPS + "/deployments/triton-emulated", REPLICAS),
    ("DELETE", APPS + "/deployments/triton-emulated", None),
    ("PUT", APPS + "/deployments/triton-emulated/scale", REPLICAS),
    ("GET", APPS + "/deployments/triton-other/scale", None),
    ("PATCH", APPS + "/deployments/triton-other/scale", REPLICAS),
    ("PATCH", APPS + "/deployments/kis-controller-emulated/scale", REPLICAS),
    ("PATCH", "/apis/apps/v1/namespaces/kube-system/deployments/triton-emulated/scale", REPLICAS),
    ("PATCH", APPS + "/replicasets/triton-emulated/scale", REPLICAS),
    ("GET", APPS + "/statefulsets", None),
    ("GET", CORE + "/secrets", None),
    ("GET", CORE + "/configmaps", None),
    ("GET", CORE + "/services", None),
    ("GET", CORE + "/events", None),
    ("POST", CORE + "/pods", {}),
    ("DELETE", CORE + "/pods/any", None),
    ("DELETE", CORE + "/pods", None),
    ("PATCH", CORE + "/pods/any", {}),
    ("GET", CORE + "/pods/any/log", None),
    ("POST", CORE + "/pods/any/exec", None),
    ("POST", CORE + "/pods/any/eviction", {}),
    ("GET", "/api/v1/pods", None),
    ("GET", "/api/v1/namespaces/kube-system/pods", None),
    ("GET", "/api/v1/nodes", None),
    ("GET", "/api/v1/namespaces", None),
    ("DELETE", "/api/v1/namespaces/{ns}", None),
    ("PATCH", SLICES + "/any", {}),
    ("GET", LEASES, None),
    ("GET", LEASES + "/another", None),
    ("PUT", LEASES + "/another", {}),
    ("PATCH", LEASES + "/triton-emulated-controller", {}),
    ("DELETE", LEASES + "/triton-emulated-controller", None),
    ("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", {}),
    ("POST", CORE + "/serviceaccounts/kis-controller-emulated/token", {}),
    ("POST", RBAC + "/namespaces/{ns}/rolebindings", {}),
    ("PATCH", RBAC + "/namespaces/{ns}/roles/kis-controller-emulated", {}),
    ("POST", RBAC + "/clusterrolebindings", {}),
    ("GET", "/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers", None),
    ("POST", "/apis/batch/v1/namespaces/{ns}/jobs", {}),
]
ALLOWED = [
    ("GET", APPS + "/deployments/triton-emulated/scale", None),
    ("PATCH", APPS + "/deployments/triton-emulated/scale", REPLICAS),
    ("GET", CORE + "/pods", None),
    ("GET", CORE + "/pods?watch=true&timeoutSeconds=1", None),
    ("GET", SLICES, None),
    ("GET", SLICES + "?watch=true&timeoutSeconds=1", None),
]


class Account(NamedTuple):
    """A pod's: an ApiClient with nothing but its token, and its namespace."""

    api: Any
    namespace: str

    def asks(self, method: str, path: str, body: Any) -> int:
        """The status of the answer."""
        settings = self.api.configuration
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        asked = urllib.request.Request(
            settings.host + path.replace("{ns}", self.namespace),
            None if body is None else json.dumps(body).encode(),
            {"Authorization": settings.api_key["authorization"], "Content-Type": kind},
            method=method,
        )
        try:
            trusted = ssl.create_default_context(cafile=settings.ssl_ca_cert)
            with urllib.request.urlopen(asked, timeout=60, context=trusted) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture
def account_of(
    kubectl: Callable[..., str], api: Any, core: Any, namespace: str, tmp_path: Path
) -> Callable[[str], Account]:
    """account_of(overlay): of its ServiceAccount, Role and RoleBinding, beside a deployment without pods."""
    from kubernetes import client

    def make(overlay: str) -> Account:
        objects = [*yaml.safe_load_all(kubectl("kustomize", str(MANIFESTS / "overlays" / overlay)))]
        objects = [one for one in objects if one["kind"] in ("ServiceAccount", "Role", "RoleBinding")]
        (name,) = (one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount")
        emulated = yaml.safe_load_all(kubectl("kustomize", str(MANIFESTS / "overlays" / "emulated")))
        (deployment,) = (one for one in emulated if one["kind"] == "Deployment")
        deployment["spec"]["replicas"] = 0
        (tmp_path / "account.yaml").write_text(yaml.safe_dump_all([*objects, deployment]))
        kubectl("apply", "--namespace", namespace, "-f", str(tmp_path / "account.yaml"))
        asked = core.create_namespaced_service_account_token(name, namespace, {"spec": {"expirationSeconds": 600}})
        settings = client.Configuration()
        settings.host, settings.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
        settings.api_key = {"authorization": f"Bearer {asked.status.token}"}
        return Account(client.ApiClient(settings), namespace)

    return make


@pytest.fixture
def account(account_of: Callable[[str], Account]) -> Account:
    """The controller's."""
    return account_of("local-controller")


def test_the_account_can_do_what_a_controller_does(account: Account, api: Any, core: Any) -> None:
    from kubernetes import client

    statuses = {(method, path): account.asks(method, path, body) for method, path, body in ALLOWED}
    assert set(statuses.values()) == {200}, statuses
    deployment = KubernetesDeployment(account.api, account.namespace, CONFIG.deployment)
    assert deployment.look().spec_replicas == 0
    deployment.tell("Tried", "by a test", warning=False)
    assert [one.message for one in core.list_namespaced_event(account.namespace).items] == ["by a test"]
    for _ in range(2):  # it makes the lease, and renews it
        election = Election(account.api, account.namespace, str(CONFIG.lease), "me")
        election.attempt()
        assert election.leads()
    lease = client.CoordinationV1Api(api).read_namespaced_lease(CONFIG.lease, account.namespace)
    assert lease.spec.holder_identity == "me"


def test_the_account_can_do_nothing_else(account: Account) -> None:
    answers = {(method, path): account.asks(method, path, body) for method, path, body in FORBIDDEN}
    assert {what: status for what, status in answers.items() if status != 403} == {}


def test_the_activators_account_can_look_and_nothing_else(account_of: Callable[[str], Account]) -> None:
    activators = account_of("local-activator")
    assert DeploymentView(activators.api, activators.namespace, CONFIG.deployment).look().spec_replicas == 0
    looks = [("GET", APPS + "/deployments/triton-emulated/scale", None), ("GET", CORE + "/pods", None)]
    others = [*FORBIDDEN, *(what for what in ALLOWED if what not in looks), ("POST", LEASES, {})]
    answers = {(method, path): activators.asks(method, path, body) for method, path, body in others}
    assert {what: status for what, status in answers.items() if status != 403} == {}
