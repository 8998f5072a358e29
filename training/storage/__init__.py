"""The files of rounds between the machines that make them and those that show them."""
