"""Everything that only a GPU can tell, in one command: `make gpu`, or `python -m benchmarks.gpu`.

__main__.py    the parts in order of worth, within a time budget; a part that is done is not done again
results.py     what is kept: one JSON, written whole after each part
tables.py      docs/studies/gpu.md, of that JSON
sdxl.py flux.py rounding.py sampling.py world.py    the parts
"""
