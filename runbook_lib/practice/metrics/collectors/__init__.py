"""What the platform says of itself: a module for each system that is measured."""
