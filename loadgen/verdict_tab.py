"""A tab of Locust's web page with the verdict of each run of this session, and a route to the last run's own page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask import request

ROUTE = "/run"  # of the last run's page, beneath Locust's own address
_KEY = "verdict"
_COLUMNS = {"run": "Run", "verdict": "Verdict", "why": "Why"}


class VerdictTab:
    """Rows are shown as soon as the page asks for its statistics again. report: report.html of the last run, if there
    is one."""

    def __init__(self, web_ui: Any, base_path: str) -> None:
        self.report: Path | None = None
        self._rows: list[dict[str, str]] = []
        structure = [{"key": key, "title": title} for key, title in _COLUMNS.items()]
        web_ui.template_args["extended_tabs"] = [{"title": "Verdict", "key": _KEY}]
        web_ui.template_args["extended_tables"] = [{"key": _KEY, "structure": structure}]

        def _with_verdicts(response: Any) -> Any:
            if request.path == f"{base_path}/stats/requests" and response.is_json:
                rows = {"extended_stats": [{"key": _KEY, "data": self._rows}]}
                response.set_data(json.dumps({**response.json, **rows}))
            return response

        def _show_run() -> Any:
            if self.report is None:
                return "no run has a page yet", 404
            return self.report.read_text(encoding="utf-8")

        web_ui.app.after_request(_with_verdicts)
        web_ui.app.add_url_rule(f"{base_path}{ROUTE}", "kis_run", web_ui.auth_required_if_enabled(_show_run))

    def add(self, run: str, verdict: str, reasons: list[str]) -> None:
        """The newest first; a line for each reason."""
        texts = reasons or [""]
        self._rows[:0] = [
            {"run": run if k == 0 else "", "verdict": verdict if k == 0 else "", "why": text}
            for k, text in enumerate(texts)
        ]
