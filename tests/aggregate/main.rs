//! Aggregation as the outer loop meets it: bits, references, liars, hostile updates.

mod bits;
mod coordinates;
mod hostile;
mod kappa;
mod liars;
mod reference;
mod updates;
