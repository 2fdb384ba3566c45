"""The report of a run: one self-contained page, the same as Markdown, and the plots."""

from hafbench.reports.build import build_report

__all__ = ["build_report"]
