"""Diffusion as mathematics: schedules, formulations, samplers, guidance and bounds, whatever network is behind."""
