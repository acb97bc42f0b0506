"""Callbacks: what hears a fit and may change it, one subject a module; each knows `LearnerState`, none the learner."""
