"""Callbacks: what observes or changes a fit, one subject a module; each knows `LearnerState`, none the learner."""
