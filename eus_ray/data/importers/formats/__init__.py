"""The formats, one module each; a module's name is its format's."""
