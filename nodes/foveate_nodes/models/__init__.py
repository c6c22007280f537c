"""What networks of every wing share: their manifest, and how a trained one becomes an integer model file."""
