"""Families of localized degradation: each takes a photo and a part of it, and gives the same photo with one error."""
