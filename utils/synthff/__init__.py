"""In: nothing but seeds and two public packages of head models.
Out: SynthFF, rendered talking heads reenacted by NeuralTextures, in the layout of FaceForensics++.
Open first: `build.py`.
"""
