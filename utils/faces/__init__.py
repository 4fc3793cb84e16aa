"""In: a tree in the layout of FaceForensics++, or a video.
Out: face crops, one memory-mapped array and a table with one row a sampled frame.
Open first: `crops.py`.
"""
