//! Where cached bytes rest: the Backend trait and its implementations.
