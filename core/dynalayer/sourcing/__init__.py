"""Sources: where all items of a layer can be read again, how they are read, and where they wait until they are used."""
