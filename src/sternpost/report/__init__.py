"""What a person sees of a run: the headline, the tables and the one-file HTML report."""

from sternpost.report.card import pack_card
from sternpost.report.headline import headline
from sternpost.report.html import render_report
from sternpost.report.table import results_html_table, results_table

__all__ = ["headline", "pack_card", "render_report", "results_html_table", "results_table"]
