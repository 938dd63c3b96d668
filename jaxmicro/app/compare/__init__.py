"""Model variants on the same pixels, ranked and tested."""
