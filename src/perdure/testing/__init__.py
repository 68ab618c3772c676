"""What perdure's own tests stand on, shipped for those who write a backend or want to try their own code as hard.

- Needs pytest and hypothesis; nothing else of perdure imports from here.
"""
