"""What a person sees of a run: the headline, the tables and the one-file HTML report."""

from sternpost.report.card import pack_card
from sternpost.report.headline import headline
from sternpost.report.html import render_report
from sternpost.report.table import results_html_table, results_table
from sternpost.report.training import (
    render_training,
    training_headline,
    training_html_table,
    training_table,
)

__all__ = ["headline", "pack_card", "render_report", "render_training", "results_html_table",
           "results_table", "training_headline", "training_html_table", "training_table"]
