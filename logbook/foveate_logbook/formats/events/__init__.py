"""Files of event cameras, one format a module, found by what they hold."""
