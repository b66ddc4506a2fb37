"""`features atlas`: the described features as pages, one a feature, and an index of all.

    DIR/atlas/index.html, feature-0.html, ...   open offline; nothing is asked of any network

Where DIR holds descriptions, that is all that is needed; else they are made first, and then this
takes what `features describe` takes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.discovery.describe_settings import DescribeSettings
from sternpost.errors import InputError
from sternpost.files import make_folder, remove_folder, write_text
from sternpost.jobs.describe import describe
from sternpost.jobs.search import read_descriptions
from sternpost.report.atlas import atlas_pages
from sternpost.trials.progress import Watch
from sternpost.trials.settings import settings_from

ATLAS, INDEX = "atlas", "index.html"


@dataclass(frozen=True)
class Atlas:
    """Pages on disk."""

    path: Path
    """The index."""
    features: int

    def to_pandas(self) -> Any:
        """A row a page: its feature and label."""
        import pandas as pd  # heavy: only for who asks

        _, entries = read_descriptions(self.path.parent.parent)
        return pd.DataFrame([{"feature": e["feature"], "label": e["label"],
                              "page": str(self.path.with_name(f"feature-{e['feature']}.html"))}
                             for e in entries])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


def features_atlas(*, out: str, **settings: Any) -> Atlas:
    """Writes the atlas of the features described in `out`; with `model`, `sae`, `unsafe` and `safe`
    (and all else that `features_describe` takes) describes them first.

    Raises a SternpostError for bad input.
    """
    return atlas(out, settings, Watch())


def atlas(out: str, settings: dict[str, Any], watch: Watch) -> Atlas:
    """The same, with somebody watching."""
    if not isinstance(out, str | Path):
        raise InputError(f"out is the folder in which `features describe` wrote; got {out!r}.")
    if settings:
        told = settings_from(DescribeSettings, {"out": out, **settings}, "features atlas")
        describe(told, watch)
    about, entries = read_descriptions(out)
    place = Path(out) / ATLAS
    with watch.stage("atlas", f"Writing {len(entries):,} pages"):
        remove_folder(place)  # pages of another SAE would stay among them
        make_folder(place)
        pages = atlas_pages(about, entries)
        for name, html in watch.bar(pages, len(entries) + 1, "pages"):
            write_text(place / name, html)
    return Atlas(place / INDEX, len(entries))
