"""In: a profile of `config.py`.
Out: finished runs, executed notebooks, and the comparison of a repeated run with the committed one.
Open first: `grid.py`.
"""
