"""Following a list of the Kubernetes API: what goes wrong is told, and it is tried again."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from testbed.serving import kubernetes_api
from testbed.serving.kubernetes_api import follow

POD = SimpleNamespace(metadata=SimpleNamespace(name="pod-1"))


class Api:
    """Answers a list with these, one a time; an exception is raised. Then nobody follows any more."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.stopping, self.heard = list(answers), threading.Event(), list[str]()

    def list_all(self, namespace: str, **more: Any) -> Any:
        answer = self.answers.pop(0)
        if not self.answers:
            self.stopping.set()
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(items=answer, metadata=SimpleNamespace(resource_version="1"))

    def follow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kubernetes_api, "RETRY_S", 0.0)
        monkeypatch.setattr(kubernetes_api, "_watch", lambda: SimpleNamespace(stream=lambda *_, **__: iter(())))
        follow(self.list_all, "here", "app=web", lambda kind, one: self.heard.append(one.metadata.name), self.stopping)


def test_what_goes_wrong_is_told_when_it_begins_and_the_list_is_read_again(monkeypatch, capsys):
    away, refused = OSError("no\nroute"), ApiException(status=403, reason="Forbidden")
    api = Api(away, away, refused, [POD], away, [POD])
    api.follow(monkeypatch)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(one["followed"], one["namespace"]) for one in told} == {("app=web", "here")}
    assert [one["error"] for one in told] == ["OSError: no route", "the API answers 403 Forbidden", "OSError: no route"]
    assert api.heard == ["pod-1", "pod-1"]
