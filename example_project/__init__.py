"""The intranet of Tidewater Works: a small site that asks for multi-factor authentication where pay is concerned."""
