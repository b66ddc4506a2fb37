"""Results and artifacts on disk: run folders that resume, and the lines that rates count."""

from sternpost.store.packs import PackFiles, copy_pack, pack_bytes, read_pack, write_pack
from sternpost.store.run_file import RunFile, open_run_file
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
    "PackFiles", "RunFile", "RunFolder", "Sample", "at_work", "change", "check_writable",
    "condition", "copy_pack", "incoherent_rate", "is_refusal", "line_rate", "open_run_file",
    "open_run_folder", "pack_bytes", "rates_of", "read_pack", "refusal_rate", "sample",
    "write_pack"]
