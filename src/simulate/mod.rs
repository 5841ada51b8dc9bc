//! Many clusters in one process: virtual clock, links, faults, attackers, sweeps.
//!
//! A [`Scenario`] says what is trained, by whom, over which network. The outer loop, its codec and
//! its rule are those of real clusters; only transport and clock are made up, and all chance is
//! addressed ([`crate::rng::Purpose::Simulation`]), so a seed gives the same bytes of results on
//! any machine, with any number of threads or jobs. docs/SIMULATE.md is the guide.

pub mod attack;
mod control;
mod error;
mod network;
mod objective;
mod results;
mod scenario;
mod sweep;
mod world;

pub use error::Error;
pub use network::Dice;
pub use objective::NeuroLlm;
pub use objective::Objective;
pub use objective::Quick;
pub use results::Fate;
pub use results::Folder;
pub use results::Machine;
pub use results::PeerRecord;
pub use results::Record;
pub use results::Summary;
pub use results::Tally;
pub use scenario::About;
pub use scenario::Faults;
pub use scenario::Group;
pub use scenario::Loses;
pub use scenario::Member;
pub use scenario::Network;
pub use scenario::Objective as What;
pub use scenario::Round;
pub use scenario::Scenario;
pub use scenario::Topology;
pub use scenario::Toy;
pub use scenario::ToyKind;
pub use sweep::Axis;
pub use sweep::Cost;
pub use sweep::Event;
pub use sweep::Point;
pub use sweep::Row;
pub use sweep::Watcher;
pub use sweep::Worker;
pub use sweep::expand;
pub use sweep::rows;
pub use sweep::simulate;
pub use sweep::sweep;
pub use sweep::table;
pub use world::Ending;
pub use world::Outcome;
pub use world::Spent;
pub use world::run;
