"""What is heard: audio files, clips, and stress put on them, by manifest."""
