"""SynthFF: rendered talking heads, reenacted by NeuralTextures, in the layout of FaceForensics++."""
