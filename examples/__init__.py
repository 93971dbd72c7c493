"""What can be run to see the package at work."""
