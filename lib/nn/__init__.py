"""What models are made of: initialisation, normalisation, residual nets, and a summary of any of them."""
