"""From a HAP data set to checkpoints."""
