"""Classes that change: stable names, versions and upgrades, renames and moves. Pure steps on plain state; no I/O."""
