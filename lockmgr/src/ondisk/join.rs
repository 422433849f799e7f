//! Which areas we take part in, and by which rules: flags and versions of sanlock 5 turned into decisions.
//!
//! | flag | what we do |
//! |---|---|
//! | NO_TIMEOUT | join; that host is [`Death::OnDeclaration`]: silence never frees what it holds |
//! | DEAD_EXT | join; that host is [dead](super::DeltaLease::dead_ext), in that generation; the next acquisition clears it |
//! | CAW | refuse: who writes such a sector with a plain write breaks the protocol for the others |
//!
//! Records of version 3.4 and 6.4 cannot have these flags: there they are damage, refused by parsing.

use std::fmt;

use super::{DeltaLease, LeaderFlags, PaxosLeader, Record};

/// What makes a silent host dead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Death {
    /// Silence for as long as its io_timeout says.
    OnTimeout,
    /// Somebody's word only (DEAD_EXT). Silence makes it fail, for ever.
    OnDeclaration,
}

/// Why we do not take part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CannotJoin {
    /// Flag CAW: the record changes by COMPARE AND WRITE only.
    CompareAndWrite(Record),
}

impl fmt::Display for CannotJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CannotJoin::CompareAndWrite(record) => write!(
                f,
                "this {record} may be changed by SCSI COMPARE AND WRITE only (flag CAW), which sanblk does not use: \
                 format the area without it (sanlock: use_compare_and_write = 0)"
            ),
        }
    }
}

impl std::error::Error for CannotJoin {}

impl DeltaLease {
    /// What makes this host dead.
    pub fn death(&self) -> Death {
        match self.flags.contains(LeaderFlags::NO_TIMEOUT) {
            true => Death::OnDeclaration,
            false => Death::OnTimeout,
        }
    }

    /// Whether we may write this slot as its owner. To be asked of our own slot before each acquisition; the slots of
    /// others are only read.
    pub fn joinable(&self) -> Result<(), CannotJoin> {
        plain_writes(Record::DeltaLease, self.flags)
    }
}

impl PaxosLeader {
    /// Whether we may write this leader. To be asked before each ballot.
    pub fn joinable(&self) -> Result<(), CannotJoin> {
        plain_writes(Record::PaxosLeader, self.flags)
    }
}

fn plain_writes(record: Record, flags: LeaderFlags) -> Result<(), CannotJoin> {
    match flags.contains(LeaderFlags::CAW) {
        true => Err(CannotJoin::CompareAndWrite(record)),
        false => Ok(()),
    }
}
