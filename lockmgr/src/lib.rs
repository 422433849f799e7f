//! Disk leases in sanlock's on-disk format. Nothing here yet but the name: volumes attach without leases.
#![forbid(unsafe_code)]
