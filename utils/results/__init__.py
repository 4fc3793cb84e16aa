"""In: scores, of this machine or committed.
Out: tables, figures, sentences that the tables carry, the report and the README's numbers.
Open first: `report.py`, which makes all of them by one call.
"""
