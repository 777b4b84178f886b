"""Other people's runs as rows of a store: tables as text, rows, curves."""
