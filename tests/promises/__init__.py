"""What DESIGN.md promises, tried from outside over real sockets: one module (or two) per promise."""
