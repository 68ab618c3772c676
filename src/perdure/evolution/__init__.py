"""Classes change: names that were given up, and what is made of objects that were saved before."""
