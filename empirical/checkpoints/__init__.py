"""Whisper checkpoints from a directory, a hub or a `.pt` of OpenAI's, checked before they are used."""
