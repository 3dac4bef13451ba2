"""What a denoiser can do to given images: fill a hole, redraw, pass from one to another; and how well it does it."""
