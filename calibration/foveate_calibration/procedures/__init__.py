"""The procedures that fit the models: each a function of views, and a command."""
