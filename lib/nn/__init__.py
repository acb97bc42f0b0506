"""What models are made of: layers, initialisation, normalisation, residual nets, U-Net; hooks, a summary, state kept."""
