"""What a machine boots, and why: pure decisions and script rendering. No I/O."""
