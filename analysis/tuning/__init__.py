"""What a search for alpha found."""
