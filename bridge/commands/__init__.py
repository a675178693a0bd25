"""The commands of `spi`, each a thin layer over a function that can be called as well."""
