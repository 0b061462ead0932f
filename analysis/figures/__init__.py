"""The papers' figures, drawn from records."""
