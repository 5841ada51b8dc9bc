//! What a simulation leaves on disk.

mod folder;
mod record;
mod summary;

pub use folder::Folder;
pub use record::Fate;
pub use record::PeerRecord;
pub use record::Record;
pub use summary::Machine;
pub use summary::Summary;
pub use summary::Tally;
