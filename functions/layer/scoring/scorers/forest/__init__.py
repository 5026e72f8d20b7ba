"""A forest of decision trees that estimates the probability of fraud.

- ``inputs`` turns the facts of a transaction into numbers, in training as well as in the service.
- ``model`` walks the trees; ``model_file`` writes models, and reads and verifies them.
- ``shapley`` says how much each number contributed.
- ``scorer`` combines a model with a rule set.

``functions/offline/train.py`` trains models. Nothing of this is imported unless the parameter ``Scorer`` asks for it.
"""
