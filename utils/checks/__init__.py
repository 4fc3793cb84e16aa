"""In: videos and face crops.
Out: what but the forgery could tell fakes from reals, and how well people can.
Open first: `shortcuts.py`.
"""
