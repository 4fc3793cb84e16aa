"""In: face crops.
Out: trained networks, and scores: P(fake) of each face of the held-out splits.
Open first: `training.py`, then `noisy_student.py`.
"""
