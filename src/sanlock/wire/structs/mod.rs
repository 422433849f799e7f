//! The structs that follow a header, one file per noun.

mod disk;
mod event;
mod host;
mod lockspace;
mod options;
mod resource;
mod rindex;
mod state;

pub use super::flags::{BadGeometry, LockspaceFlags, ResourceFlags, RindexFlags};
pub use disk::{Disk, OpenDisk};
pub use event::{Callback, HostEvent};
pub use host::{Host, HostFlags};
pub use lockspace::Lockspace;
pub use options::Options;
pub use resource::{MAX_DISKS, PlacedResource, Resource};
pub use rindex::{Rentry, Rindex};
pub use state::{State, StateKind};
