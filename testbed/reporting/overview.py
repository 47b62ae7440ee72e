"""A page over all results folders of a folder: what each answers, what it found, its first picture, and its report."""

from __future__ import annotations

import base64
import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from loadgen.artifact import ArtifactError
from testbed.archive.folder import archived_manifests, has_archive
from testbed.reporting.labels import counted, device_text
from testbed.reporting.report import Report, environment
from testbed.reporting.reports import REPORTS, calibration
from testbed.run_dir import RunDir, RunManifest, run_dirs
from workloads.errors import KisError
from workloads.files import write_text_atomically

THUMBNAIL = (480, 320)  # pixels: shown at half of that, sharp on a dense screen
THUMBNAIL_COLOURS = 64
CARDS = '<ul class="cards">'  # of our index
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.png)\)")
_NAMED_AFTER_TIME = re.compile(r"(\d{8}-\d{4})\d{0,2}-")


class Card(NamedTuple):
    """A results folder. Empty, or None: not known, or not there.

    found: the answer to the question. when: it was measured, UTC. page: in the folder. command: that writes the page.
    pictures: of report.md, in its order, those that are there.
    """

    folder: str
    question: str
    found: str
    when: str
    devices: tuple[str, ...]
    page: str | None
    command: str
    pictures: tuple[Path, ...]


def kind_of(folder: Path) -> Report | None:
    """The kind of report that the folder is of, also before its archive is unpacked; None: of none."""
    for report in REPORTS:
        if report.fits(folder):
            return report
    return calibration.REPORT if (folder / "archive" / "files.parquet").exists() else None


def results_in(folder: Path) -> dict[Path, Report | None]:
    """The results folders in a folder, by name, each with its kind; None: it has several, under a page of its own."""
    kinds = {one: kind_of(one) for one in _folders_in(folder)}
    return {
        one: kind
        for one, kind in kinds.items()
        if kind is not None or ((one / "index.html").exists() and any(map(kind_of, _folders_in(one))))
    }


def _folders_in(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []


def cards_of(folder: Path) -> list[Card]:
    """One for each results folder in it: the newest first, then the committed ones by name."""
    cards = [_card_of_several(one) if kind is None else _card(one, kind) for one, kind in results_in(folder).items()]
    committed = [card for card in cards if card.folder.startswith("golden-")]
    own = [card for card in cards if card not in committed]
    return sorted(own, key=lambda card: (card.when, card.folder), reverse=True) + committed


def has_page_of_its_own(folder: Path) -> bool:
    """True of a demo's folder, whose index.html is no index of ours."""
    page = folder / "index.html"
    return page.exists() and CARDS not in page.read_text()


def write_overview(folder: Path) -> Path:
    """index.html in the folder, from what is in its results folders."""
    shown = [
        {"card": card, "thumbnail": thumbnail(card.pictures[0]) if card.pictures else None} for card in cards_of(folder)
    ]
    page = environment(html=True).get_template("overview.html.j2")
    write_text_atomically(
        folder / "index.html", page.render(title=folder.resolve().name, shown=shown, figures={}, added=[])
    )
    return folder / "index.html"


class Thumbnail(NamedTuple):
    """address: data:, at twice the pixels of width and height."""

    address: str
    width: int
    height: int


def thumbnail(file: Path) -> Thumbnail:
    """A small copy of a picture."""
    with Image.open(file) as opened:
        small = opened.convert("RGB")
    small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    written = io.BytesIO()
    small.quantize(THUMBNAIL_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        written, "PNG", optimize=True
    )
    address = f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
    return Thumbnail(address, small.width // 2, small.height // 2)


def _card(folder: Path, report: Report) -> Card:
    manifests = _manifests(folder)
    devices = {device_text(one.device.name, one.device.kind == "emulated"): None for one in manifests}
    return Card(
        folder=folder.name,
        question=report.question,
        found=_found(folder, report),
        when=_when(folder, manifests),
        devices=tuple(devices) or ("simulated",),
        page="report.html" if (folder / "report.html").exists() else None,
        command=f"kis report {folder}",
        pictures=_pictures(folder),
    )


def _card_of_several(folder: Path) -> Card:
    """A folder such as the demo's: what is in it, by its own index.html."""
    cards = cards_of(folder)
    return Card(
        folder=folder.name,
        question="",
        found=f"{counted(len(cards), 'results folder')}: {', '.join(sorted(card.folder for card in cards))}.",
        when=max(card.when for card in cards),
        devices=tuple(dict.fromkeys(device for card in cards for device in card.devices)),
        page="index.html",
        command=f"kis report {folder}",
        pictures=next((card.pictures for card in cards if card.pictures), ()),
    )


def _found(folder: Path, report: Report) -> str:
    try:
        return report.found(folder)
    except ArtifactError:  # the files of a report are not there, or of another version
        return ""
    except KisError as error:  # a kind of study that is not installed here, a run that goes on
        return f"{str(error)[:1].upper()}{str(error)[1:]}"


def _pictures(folder: Path) -> tuple[Path, ...]:
    file = folder / "report.md"
    names = _PICTURE.findall(file.read_text()) if file.exists() else []
    return tuple(folder / name for name in names if (folder / name).exists())


def _manifests(folder: Path) -> list[RunManifest]:
    """Of the real runs, also of those that are still in the archive; none where a run.json cannot be read."""
    own = [RunDir(folder)] if (folder / "run.json").exists() else []
    try:
        runs = [run.manifest for run in (*own, *run_dirs(folder))]
    except ArtifactError:
        return []
    if not runs and has_archive(folder):
        runs = list(archived_manifests(folder).values())
    return [manifest for manifest in runs if manifest.kind == "real"]


def _when(folder: Path, manifests: list[RunManifest]) -> str:
    """Start of the first real run; else what the folder is named after."""
    starts = [one.start_unix_ns for one in manifests if one.start_unix_ns is not None]
    if starts:
        return f"{datetime.fromtimestamp(min(starts) / 1e9, UTC):%Y-%m-%d %H:%M} UTC"
    named = _NAMED_AFTER_TIME.match(folder.name)
    return f"{datetime.strptime(named[1], '%Y%m%d-%H%M'):%Y-%m-%d %H:%M}" if named else ""
