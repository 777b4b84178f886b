"""The torch modules behind the architectures; nothing here knows of sweeps, stores or corpora."""
