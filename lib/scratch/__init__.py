"""What torch does for you, rebuilt small enough to read: automatic gradients, layers, losses and optimisers."""
