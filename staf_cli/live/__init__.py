"""What is filmed at this moment: people followed and drawn while it comes, and a recording."""
