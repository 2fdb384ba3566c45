"""Leaderboards: entries made from runs, whether they hold, their tables, and the rank ranges in them."""

from hafbench.leaderboard.checks import validate
from hafbench.leaderboard.entries import Entry
from hafbench.leaderboard.making import make_entry, write_entry
from hafbench.leaderboard.ranking import Place, Table, tables

__all__ = ["Entry", "Place", "Table", "make_entry", "tables", "validate", "write_entry"]
