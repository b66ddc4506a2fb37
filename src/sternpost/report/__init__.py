"""What a person sees of a run: the headline, the tables and the one-file HTML report."""

from sternpost.report.card import pack_card
from sternpost.report.evaluation_card import evaluation_card
from sternpost.report.evaluation_headline import evaluation_headline
from sternpost.report.evaluation_page import render_evaluation
from sternpost.report.evaluation_table import evaluation_html_table, evaluation_table
from sternpost.report.headline import headline
from sternpost.report.html import render_report
from sternpost.report.table import results_html_table, results_table
from sternpost.report.training import (
    render_training,
    training_headline,
    training_html_table,
    training_table,
)

__all__ = ["evaluation_card", "evaluation_headline", "evaluation_html_table", "evaluation_table",
           "headline", "pack_card", "render_evaluation", "render_report", "render_training",
           "results_html_table", "results_table", "training_headline", "training_html_table",
           "training_table"]
