//! The iSCSI initiator's protocol as pure state machines (RFC 7143, ERL 0, one connection per session).
#![forbid(unsafe_code)]
