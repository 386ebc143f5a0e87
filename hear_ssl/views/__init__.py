"""Views: augmentations of waveforms and of log-mel features."""
