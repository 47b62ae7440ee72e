"""The loop: serve, replay and measure into run folders; fit; simulate; compare; report."""
