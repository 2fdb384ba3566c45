"""ASAP: tune a text-to-image model on localized anatomical preferences (arXiv 2605.25759)."""
