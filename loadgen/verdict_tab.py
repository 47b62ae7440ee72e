"""What this testbed adds to Locust's web page: notes on its form, a tab with the verdict of each run, and a link from
there to the run's own page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask import request
from markupsafe import escape

ROUTE = "/run"  # of the last run's page, beneath Locust's own address; ROUTE/1 is the first run's
_KEY = "verdict"
_COLUMNS = {"run": "Run", "verdict": "Verdict", "why": "Why", "page": "Page"}
# Of fields whose words are Locust's own.
_NOTES = {
    "userCount": "not used: the pattern alone decides when a request is sent; leave 1",
    "spawnRate": "not used, as there are no users; leave 1",
    "runTime": "length of the run; empty: the pattern's own",
}
_STYLE = "".join(
    f'.MuiFormControl-root:has(input[name="{name}"])::after'
    f'{{content:"{note}";font:0.75rem Roboto,Helvetica,Arial,sans-serif;opacity:.8;margin:3px 14px 0}}'
    for name, note in _NOTES.items()
)
# Locust shows cells as text. A link is set beside the text of each address; screen readers are told of the notes.
_SCRIPT = """
const notes = NOTES, address = new RegExp("^" + BASE + "/\\\\d+$");
new MutationObserver(() => {
  for (const [name, note] of Object.entries(notes))
    document.querySelector(`input[name="${name}"]:not([aria-description])`)?.setAttribute("aria-description", note);
  for (const cell of document.querySelectorAll("td")) {
    const text = Array.from(cell.childNodes).filter(one => one.nodeType === 3).map(one => one.data).join("");
    const old = cell.querySelector("a.kis"), wanted = address.test(text) ? text : "";
    if ((old?.getAttribute("href") ?? "") === wanted) continue;
    old?.remove();
    if (!wanted) continue;
    const link = document.createElement("a");
    Object.assign(link, { className: "kis", href: wanted, target: "_blank", textContent: "open" });
    link.style.marginLeft = "1ex";
    cell.append(link);
  }
}).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
"""


class VerdictTab:
    """Rows are shown as soon as the page asks for its statistics again."""

    def __init__(self, web_ui: Any, base_path: str) -> None:
        self._rows: list[dict[str, str]] = []
        self._pages: list[Path | str | None] = []  # of each run: its report.html, or why it has none; None: not yet
        self._route = f"{base_path}{ROUTE}"
        # The form's fields stay in their order, the pattern's own first: the page's template would sort them.
        web_ui.app.jinja_env.policies["json.dumps_kwargs"] = {"sort_keys": False}
        structure = [{"key": key, "title": title} for key, title in _COLUMNS.items()]
        web_ui.template_args["extended_tabs"] = [{"title": "Verdict", "key": _KEY}]
        web_ui.template_args["extended_tables"] = [{"key": _KEY, "structure": structure}]
        script = _SCRIPT.replace("NOTES", json.dumps(_NOTES)).replace("BASE", json.dumps(self._route))
        head = f"<style>{_STYLE}</style><script>{script}</script></head>"

        def _with_ours(response: Any) -> Any:
            if request.path == f"{base_path}/stats/requests" and response.is_json:
                rows = {"extended_stats": [{"key": _KEY, "data": self._rows}]}
                response.set_data(json.dumps({**response.json, **rows}))
            elif request.path == f"{base_path}/" and response.mimetype == "text/html":
                response.set_data(response.get_data(as_text=True).replace("</head>", head, 1))
            return response

        def _show_run(number: int | None = None) -> Any:
            known = len(self._pages)
            number = known if number is None else number
            if not 1 <= number <= known:
                return _message("no run has a page yet" if not known else f"there is no run {number}"), 404
            page = self._pages[number - 1]
            if page is None:
                return _message("the page of this run is being drawn, which takes some seconds", again_s=2)
            return page.read_text(encoding="utf-8") if isinstance(page, Path) else _message(page)

        web_ui.app.after_request(_with_ours)
        shown = web_ui.auth_required_if_enabled(_show_run)
        for address in (self._route, f"{self._route}/<int:number>"):
            web_ui.app.add_url_rule(address, "kis_run", shown)

    def add(self, run: str, verdict: str, reasons: list[str], page: bool) -> int:
        """The newest first; a line for each reason. page: the run will have one. Returns its number for `set_page`."""
        self._pages += [None] if page else []
        number = len(self._pages)
        texts = reasons or [""]
        first = {"run": run, "verdict": verdict, "page": f"{self._route}/{number}" if page else ""}
        rest = dict.fromkeys(first, "")
        self._rows[:0] = [{**(first if k == 0 else rest), "why": text} for k, text in enumerate(texts)]
        return number

    def set_page(self, number: int, page: Path | str) -> None:
        """A run's report.html; or why there is none."""
        self._pages[number - 1] = page


def _message(text: str, again_s: int | None = None) -> str:
    """A page of one sentence, which asks again."""
    again = "" if again_s is None else f'<meta http-equiv="refresh" content="{again_s}">'
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{again}<title>run</title><p>{escape(text)}.</p></html>'
    )
