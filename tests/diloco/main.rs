//! The outer loop on real training of a very small model: against a plain reference, between
//! clusters, and through what can go wrong.

mod federation;
mod golden;
mod ranks;
mod reference;
mod resume;
mod rounds;
mod trainer;
