"""regbook: the shared package of *Regularization in Deep Learning — an executable course*.

Floors, each importing only from those below it:

1. ``device``, ``data``, ``models``, ``claims``, ``figures``, ``widgets``
2. ``training`` and one module per topic
3. ``experiments``
4. ``checks`` (feedback for exercises) and ``press`` (execute, run, keep fresh)
"""

__version__ = "0.1.0"
