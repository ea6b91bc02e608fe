"""Many videos in one run: sampled in batches, in this process or on a Ray cluster, and listed in a manifest."""
