//! Own objects into the directory.
