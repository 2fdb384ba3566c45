"""Labels by people: the pages on which they are given, the store, agreement, and rates that use them.

runs -> frame -> plan (what to label, with what chance) -> session -> store -> consensus -> estimates
"""
