"""Clusters of interchangeable backends: who is in them, who may be chosen, and what is known of each."""
