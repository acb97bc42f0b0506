"""Diffusion: schedules, the one contract of a denoiser, and samplers."""

from lib.diffusion.denoise import Denoise, clipped, denoiser, guided
from lib.diffusion.schedule import Level, Schedule

__all__ = ["Denoise", "Level", "Schedule", "clipped", "denoiser", "guided"]
