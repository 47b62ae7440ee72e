"""`python -m testbed.reporting.gallery FOLDER`: what the committed campaigns found, as a Markdown page with pictures.

Writes FOLDER/gallery.md and FOLDER/gallery/*.png, from committed files of results/ alone. For the documentation site.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from testbed.errors import ConfigError
from testbed.reporting.drawing import PNG_COLOURS
from testbed.reporting.overview import Card, cards_of
from workloads.errors import KisError
from workloads.files import replacing, write_text_atomically

RESULTS = Path(__file__).parents[2] / "results"
PICTURES = 2  # of a campaign, at most
WIDEST = 1000  # pixels of a picture
TALLEST = 900  # of one that is longer, the top


def write_gallery(folder: Path, results: Path = RESULTS) -> Path:
    """gallery.md in the folder; ConfigError if there is no committed campaign."""
    cards = [card for card in cards_of(results) if card.folder.startswith("golden-")] if results.is_dir() else []
    if not cards:
        raise ConfigError(f"{results} has no golden-* folders: the gallery is made in a checkout of the repository")
    (folder / "gallery").mkdir(parents=True, exist_ok=True)
    for old in folder.glob("gallery/*.png"):
        old.unlink()
    sections = []
    for card in cards:
        shown = {f"gallery/{card.folder}-{picture.stem}.png": picture for picture in card.pictures[:PICTURES]}
        for name, picture in shown.items():
            _copy(picture, folder / name)
        sections.append(_section(card, shown))
    text = "# Gallery\n\nThe committed campaigns, with the first pictures of each report.\n\n" + "\n".join(sections)
    write_text_atomically(folder / "gallery.md", text)
    return folder / "gallery.md"


def _section(card: Card, shown: Iterable[str]) -> str:
    lines = [f"## {card.folder}", f"*{card.question}*", _literal(card.found)]
    lines += [f"![{Path(name).stem}]({name})" for name in shown]
    devices = _literal(", ".join(card.devices))
    lines.append(f"{card.when + '; ' if card.when else ''}{devices}. Its page: `kis report results/{card.folder}`")
    return "".join(f"{line}\n\n" for line in lines if line)


def _literal(text: str) -> str:
    """As Markdown shows it: names of policies and models may have its marks."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>#|" else character for character in text)


def _copy(source: Path, target: Path) -> None:
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS)
    picture = picture.crop((0, 0, picture.width, min(picture.height, TALLEST)))
    with replacing(target) as temporary:
        picture.quantize(PNG_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            temporary, "PNG", optimize=True
        )


def main(arguments: Sequence[str]) -> int:
    """Exit status 2 with one line if it cannot be made."""
    if len(arguments) != 1:
        print("usage: python -m testbed.reporting.gallery FOLDER", file=sys.stderr)
        return 2
    try:
        print(write_gallery(Path(arguments[0])))
    except KisError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
