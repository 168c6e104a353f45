"""What puts the tokens of an image into groups; one file per kind."""
