"""Results and artifacts on disk: run folders that resume, and the lines that rates count."""

from sternpost.store.packs import LEVELS, PackFiles, read_pack, write_pack
from sternpost.store.run_folder import RunFolder, at_work, check_writable, open_run_folder
from sternpost.store.samples import (
    Sample,
    change,
    condition,
    incoherent_rate,
    is_refusal,
    line_rate,
    rates_of,
    refusal_rate,
    sample,
)

__all__ = [
    "LEVELS", "PackFiles", "RunFolder", "Sample", "at_work", "change", "check_writable",
    "condition", "incoherent_rate", "is_refusal", "line_rate", "open_run_folder", "rates_of",
    "read_pack", "refusal_rate", "sample", "write_pack"]
