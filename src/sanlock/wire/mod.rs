//! The protocol of sanlock's client socket, version 0.1, as pure code: no socket, no clock, no lease.
//!
//! ```text
//!  bytes, in any segmentation --> RequestReader --> (Header, Request)      wanted of the lock manager
//!                                               --> Silent | Refused       what the real one does with nonsense
//!  what the lock manager did  --> Reply, states --> bytes
//! ```
//!
//! The protocol has no marshalling: its messages are C structs of the x86-64 ABI in host byte order. Each struct has its
//! layout in one place, a table of fields beside its `parse` and `emit`. Bytes that no field claims are ignored
//! when reading and zero when writing.

mod bytes;
pub mod flags;
pub mod header;
pub mod reader;
pub mod reply;
pub mod request;
pub mod result;
pub mod structs;
pub mod text;

#[cfg(test)]
mod tests;

pub use header::{Command, Header, UnknownCommand};
pub use reader::{Progress, RequestReader, Silence};
pub use reply::{Reply, VERSION_NUMBER};
pub use request::{Release, Request, Whose};
pub use result::Refusal;
