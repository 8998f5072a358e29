"""The DPO paper in miniature (Rafailov et al., 2305.18290, section 6), on a model whose reward is known.

`python -m benchmarks.paper` writes docs/paper.md: the frontier of reward and KL for many methods, win rates by sampling
temperature, generalization to prompts of other kinds, and an automatic judge beside people.
"""
