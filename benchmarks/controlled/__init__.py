"""The controlled-sentiment world: prompts, annotators, true rewards, policies, and what a reward costs in KL.

It is the experiment of the DPO paper (Rafailov et al., 2305.18290, section 6) on the starter model. The rewards are
known, so that a recipe is judged by what its policy earns on fresh prompts, and by how far it moved for that.
"""
