"""What networks of every wing share: what a graph is told of a model, and how a trained one becomes a model file."""
