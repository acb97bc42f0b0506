"""What models are made of: layers, initialisation, normalisation, ResNets, U-Net; hooks, a summary, state kept."""
