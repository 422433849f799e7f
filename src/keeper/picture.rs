//! A lockspace as somebody who asks sees it.

use std::time::Duration;

use lockmgr::ondisk::Name;
use lockmgr::{History, Host, LeaseId, LostWhy, Mode};

/// How a keeper stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The host id is being taken.
    Joining,
    /// It is ours.
    Joined,
    /// It is not renewed any more; once the disk answers again it is taken anew and the leases are won back.
    Lost(LostWhy),
    /// It is ours again; leases are being won back.
    Reclaiming,
    /// Leases could not be won back: nothing that this lockspace protects is written any more.
    Refused,
    /// It was given back, or is given up.
    Ending,
}

/// A lease that is held, or was when the lockspace was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holding {
    /// Its area.
    pub id: LeaseId,
    /// Its name.
    pub name: Name,
    /// How.
    pub mode: Mode,
    /// The version in which it was acquired.
    pub lver: u64,
}

/// How things stand.
#[derive(Clone, Debug)]
pub struct Picture {
    /// In one word.
    pub standing: Standing,
    /// For so long.
    pub lasts: Duration,
    /// Our generation; 0 before the first join.
    pub generation: u64,
    /// Since the start of the last renewal that completed; `None` before the first.
    pub renewed: Option<Duration>,
    /// How our slot fared.
    pub history: History,
    /// Every host that ever joined, we too. Empty before the first look.
    pub hosts: Vec<Host>,
    /// What we hold.
    pub held: Vec<Holding>,
    /// What we are acquiring.
    pub acquiring: Vec<LeaseId>,
}

/// In a few words.
pub fn why_lost(why: LostWhy) -> String {
    match why {
        LostWhy::Silence => "it could not be renewed".to_owned(),
        LostWhy::Bad(bad) => bad.to_string(),
        LostWhy::Owner => "another host has written our slot".to_owned(),
        LostWhy::Changed => "our slot is not as we left it".to_owned(),
        LostWhy::DeclaredDead => "a fencing agent declared this host dead".to_owned(),
    }
}
