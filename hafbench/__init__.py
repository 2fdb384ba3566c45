"""HAF-Bench: how often does a text-to-image model get human anatomy wrong?"""

__version__ = "0.1.0"
