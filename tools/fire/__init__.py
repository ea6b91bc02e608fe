"""What files, kills and full disks do to the package: `python -m tools.fire.damaged_files` and others, outside CI."""
